// Buttons that change something: each acts once at a time, and a question is read before it is answered.
import { h } from "./dom.js";

const READING_MS = 600; // the clicks of a double click are closer together

/**
 * Makes a button act on clicks: it is disabled until the work is done, and a double click or a key that is held down is
 * one act, also where the first click has put another such button in its place.
 *
 * @param {(event: MouseEvent) => Promise<void> | void} work
 */
export function act(button, work) {
  button.addEventListener("keydown", (event) => event.repeat && event.key === "Enter" && event.preventDefault());
  button.addEventListener("click", async (event) => {
    if (event.detail > 1) return;
    const hadFocus = document.activeElement === button;
    button.disabled = true;
    try {
      await work(event);
    } finally {
      button.disabled = false;
      if (hadFocus) takeFocus(button);
    }
  });
  return button;
}

/** Makes a button the answer to a question that has just been shown: it cannot be clicked before that can be read. */
export function confirming(button, work) {
  button.disabled = true;
  setTimeout(() => {
    button.disabled = false;
    takeFocus(button);
  }, READING_MS);
  return act(button, work);
}

/** Makes a button ask before it acts: another one takes its place, until that is clicked or loses the focus. */
export function askFirst(button, question, work) {
  return act(button, () => {
    let isOver = false;
    const back = () => {
      if (isOver) return;
      isOver = true;
      sure.replaceWith(button);
    };
    const sure = confirming(
      h("button", { class: button.className, onblur: () => sure.disabled || back() }, question),
      () => Promise.resolve(work()).finally(back),
    );
    button.replaceWith(sure);
    setTimeout(() => document.activeElement === sure || back(), READING_MS);
  });
}

/** Moves the focus to a button, unless the reader has moved it elsewhere meanwhile. */
function takeFocus(button) {
  if (document.activeElement?.contains(button)) button.focus({ preventScroll: true });
}
