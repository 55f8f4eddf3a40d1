// Lines on a canvas: thousands of them are no work, and one that is lit is drawn on a second canvas over them.
import { h } from "../dom.js";

/** Makes a canvas of a size in CSS pixels, sharp on any screen; returns its pencil. */
export function prepare(canvas, width, height) {
  const ratio = devicePixelRatio || 1;
  Object.assign(canvas, { width: width * ratio, height: height * ratio });
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const pencil = canvas.getContext("2d");
  pencil.scale(ratio, ratio);
  pencil.lineJoin = "round";
  return pencil;
}

/** What a colour of the style sheet is in the theme that is shown. */
export function colourOf(element, name) {
  element.style.color = `var(${name})`;
  const found = getComputedStyle(element).color;
  element.style.color = "";
  return found;
}

/** Calls a function at each change of the theme, for as long as an element is in the document. */
export function onTheme(element, work) {
  const change = () => (element.isConnected ? work() : removeEventListener("themechange", change));
  addEventListener("themechange", change);
}

export function trace(pencil, xs, ys) {
  pencil.beginPath();
  for (let i = 0; i < xs.length; i++) pencil.lineTo(xs[i], ys[i]);
  pencil.stroke();
}

export const layer = () => h("canvas.layer", { "aria-hidden": "true" });
