// Choosing a range of epochs on a chart: by a drag, a double click, or the keys + and −. Touches move the cursor alone.
import { s } from "./dom.js";

const LEAST_PX = 6; // a shorter drag is a click
const FACTOR = 4;

/**
 * @param {HTMLElement} root the chart
 * @param {() => {x: Function, top: number, bottom: number, domain: [number, number]}} geometry of what is drawn now
 * @param {() => number | null} cursorEpoch
 * @param {(range: [number, number] | null) => void} onzoom told a range of epochs, null for all
 */
export function makeZoomable(root, geometry, cursorEpoch, onzoom) {
  const brush = s("rect.brush");
  let from = null;
  const placeOf = (event) => event.clientX - root.getBoundingClientRect().left;
  const span = (a, b) => [Math.min(a, b), Math.max(a, b)];
  const around = (epoch, factor) => {
    const [lo, hi] = geometry().domain;
    const half = Math.max(1, ((hi - lo) * factor) / 2);
    onzoom([Math.round(epoch - half), Math.round(epoch + half)]);
  };
  const epochOf = (place) => geometry().x.invert(place);
  const end = () => {
    from = null;
    brush.remove();
  };
  root.classList.add("zoomable");
  root.addEventListener("pointerdown", (event) => {
    if (event.button || event.pointerType === "touch") return;
    event.preventDefault(); // no text is selected
    root.focus({ preventScroll: true });
    root.setPointerCapture(event.pointerId);
    from = placeOf(event);
  });
  root.addEventListener("pointermove", (event) => {
    if (from === null) return;
    const [lo, hi] = span(from, placeOf(event));
    const { top, bottom } = geometry();
    for (const [name, value] of Object.entries({ x: lo, width: hi - lo, y: top, height: bottom - top }))
      brush.setAttribute(name, value);
    if (!brush.isConnected) root.querySelector("svg").append(brush);
  });
  root.addEventListener("pointerup", (event) => {
    if (from === null) return;
    const [lo, hi] = span(from, placeOf(event));
    end();
    if (hi - lo >= LEAST_PX) onzoom([Math.ceil(epochOf(lo)), Math.floor(epochOf(hi))]);
  });
  root.addEventListener("pointercancel", end);
  root.addEventListener("dblclick", (event) => around(epochOf(placeOf(event)), 1 / FACTOR));
  root.addEventListener("keydown", (event) => {
    const [lo, hi] = geometry()?.domain ?? [0, 0];
    const epoch = cursorEpoch() ?? (lo + hi) / 2;
    if (event.key === "+" || event.key === "=") around(epoch, 1 / FACTOR);
    else if (event.key === "-") around(epoch, FACTOR);
    else if (event.key === "Escape") onzoom(null);
    else return;
    event.preventDefault();
  });
}

/** Reads a range of epochs, as it stands in an address: `20..80`. */
export function readRange(text) {
  const [lo, hi] = (/^(\d{1,9})\.\.(\d{1,9})$/.exec(text ?? "") ?? []).slice(1).map(Number);
  return hi > lo ? [Math.max(1, lo), hi] : null;
}

/** A range inside 1 to the last epoch; null if that is everything, or nothing. */
export function clampRange(range, last) {
  if (!range) return null;
  const [lo, hi] = [Math.max(1, range[0]), Math.min(last, range[1])];
  return hi > lo && (lo > 1 || hi < last) ? [lo, hi] : null;
}

export const writeRange = (range) => range && `${range[0]}..${range[1]}`;
