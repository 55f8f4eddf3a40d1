// What the model sees: the 8×8 of the answer, a way to paint it by keyboard, and which pixels speak for the answer.
import * as api from "../api.js";
import { announce, h, replace } from "../dom.js";
import { digitTile, rowsOf, weightTile } from "../tiles.js";

const EMPTY = Array(64).fill(0);
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const INK = 12; // what a turned-over pixel gets if it had no ink; up to 2 of 16 counts as none
const NO_INK = 2;

/**
 * @param {object} on paint(pixels, said): pixels were set by keyboard, and which, in words; view(name): "pixels" or
 *   "why" was chosen
 */
export function makeSeen(view, on) {
  let pixels = null;
  let at = [3, 3];
  let asked = 0;
  const tile = digitTile(EMPTY, "What the model sees: 8 by 8 pixels");
  const evidence = weightTile(EMPTY, 1, "Which pixels speak for the answer and which against it");
  const mark = h("i.seen-at", { hidden: true });
  const grid = h(
    ".seen",
    {
      tabindex: 0,
      role: "application",
      onkeydown: paint,
      onblur: () => (mark.hidden = true),
      "aria-label": "8 by 8 pixels. Arrow keys move, space paints, 0 to 9 set how dark.",
    },
    tile,
    evidence,
    mark,
  );
  const names = { pixels: "Pixels", why: "Why" };
  const buttons = Object.entries(names).map(([key, text]) =>
    h("button", { "aria-pressed": String(view === key), onclick: () => choose(key) }, text),
  );
  const note = h("p.small.faint");
  const refused = h("p.small.down", { role: "alert", hidden: true });

  function choose(key) {
    view = key;
    Object.keys(names).forEach((each, i) => buttons[i].setAttribute("aria-pressed", String(each === key)));
    on.view(key);
  }

  function paint(event) {
    const step = STEPS[event.key];
    if (step) at = at.map((v, i) => Math.max(0, Math.min(7, v + step[i])));
    else if (event.key === " " || /^[0-9]$/.test(event.key)) {
      const next = [...(pixels ?? EMPTY)];
      const i = at[1] * 8 + at[0];
      next[i] = event.key === " " ? (next[i] ? 0 : 16) : Math.round((Number(event.key) * 16) / 9);
      on.paint(next, whereIs(next));
    } else return;
    event.preventDefault();
    event.stopPropagation();
    mark.hidden = false;
    mark.style.left = `${at[0] * 12.5}%`;
    mark.style.top = `${at[1] * 12.5}%`;
    announce(whereIs(pixels ?? EMPTY));
  }
  const whereIs = (all) => `row ${at[1] + 1}, column ${at[0] + 1}: ${all[at[1] * 8 + at[0]]} of 16`;

  /** Shows pixels, and for "why" which of them speak for `digit`. */
  async function show(next, digit) {
    pixels = next;
    tile.show(next ?? EMPTY);
    const isWhy = view === "why" && next !== null && digit !== null;
    const number = ++asked;
    if (!isWhy) {
      [evidence.hidden, tile.hidden] = [true, false];
      return replace(
        note,
        next
          ? "Upright and of one thickness, as the training images are: 8×8 pixels, 0 to 16."
          : "8×8 pixels, 0 to 16 each.",
      );
    }
    const marks = await why(next, digit).catch(() => null);
    if (number !== asked || !marks) return null;
    evidence.show(marks, Math.max(...marks.map(Math.abs), 0.1));
    [evidence.hidden, tile.hidden] = [false, true];
    return replace(
      note,
      h("span.key-plus", "for"),
      " and ",
      h("span.key-minus", "against"),
      ` a ${digit}, pixel by pixel`,
    );
  }

  const root = h(
    "section.card.draw-seen",
    h("header", h("h2", "What the model sees")),
    h(".body", grid, h(".seg.fill", { role: "group", "aria-label": "Show" }, buttons), note, refused),
  );
  return {
    root,
    show,
    get pixels() {
      return pixels;
    },
    /** Says in the server's words why a picture could not be read; null: it could. */
    refuse(text) {
      refused.hidden = text === null;
      refused.textContent = text ?? "";
    },
  };
}

/** How much of its lead an answer loses when a pixel is turned over; 65 images in one request. */
async function why(pixels, digit) {
  const turned = pixels.map((v, i) => pixels.with(i, v > NO_INK ? 0 : INK));
  const { predictions } = await api.predict({ instances: [pixels, ...turned].map(rowsOf) });
  const lead = ({ probabilities: p }) =>
    Math.log(Math.max(p[digit], 1e-12)) - Math.log(Math.max(...p.filter((_, d) => d !== digit), 1e-12));
  const base = lead(predictions[0]);
  return predictions.slice(1).map((each) => base - lead(each));
}
