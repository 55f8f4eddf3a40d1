// What the reader holds stays in the document until it is let go: an element that is replaced while a button of the
// mouse, a finger or the space bar is down on it would lose its click, and a slider its drag.

const RELEASES = ["pointerup", "pointercancel", "pointermove", "dragend", "keyup", "blur"];

let held = null; // the element under the button, the finger or the space bar
const waiting = new Map(); // what is done once it is let go, by the element that it changes

/** Does work that changes what is inside an element: now, or once nothing in it is held. The newest work wins. */
export function whenLetGo(element, work) {
  waiting.delete(element);
  if (held && element.contains(held)) waiting.set(element, work);
  else work();
}

const hold = (event) => {
  if (event.type === "pointerdown" || event.key === " ") held = event.target;
};

function release(event) {
  const isOver =
    event.type === "pointermove"
      ? event.buttons === 0 // its release was outside the window, or a menu's
      : event.type === "keyup"
        ? event.key === " "
        : event.type !== "blur" || event.target === window;
  if (held && isOver) setTimeout(letGo); // after the click, which follows at once
}

function letGo() {
  held = null;
  for (const [element, work] of waiting) {
    waiting.delete(element);
    work();
  }
}

for (const name of ["pointerdown", "keydown"]) addEventListener(name, hold, true);
for (const name of RELEASES) addEventListener(name, release, true);
