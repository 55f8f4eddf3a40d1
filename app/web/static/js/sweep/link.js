// What the pictures of a sweep share: the point under the pointer, colours, and how points and values are written.
import { LONG, value } from "../format.js";
import { errors } from "../scales.js";

/** The point under the pointer or the focus, shared by everything on the page. */
export class Link extends EventTarget {
  point = null;
  set(point) {
    if (point === this.point) return;
    this.point = point;
    this.dispatchEvent(new Event("change"));
  }
  on(element, point) {
    element.addEventListener("pointerenter", () => this.set(point));
    element.addEventListener("pointerleave", () => this.set(null));
    // Chromium puts an SVG element that listens to its focus into the order of Tab: thousands of dots, each lost when
    // it is drawn anew.
    if (element instanceof HTMLElement) element.addEventListener("focus", () => this.set(point));
    return element;
  }
}

// matplotlib's cividis, as the service's own pictures have it: even in lightness, the same for colour-blind eyes.
const CIVIDIS = [
  "#00224e",
  "#123570",
  "#3b496c",
  "#575d6d",
  "#707173",
  "#8a8678",
  "#a59c74",
  "#c3b369",
  "#e1cc55",
  "#fee838",
].map((hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)));

export function cividis(t) {
  const at = Math.max(0, Math.min(1, t)) * (CIVIDIS.length - 1);
  const i = Math.min(CIVIDIS.length - 2, Math.floor(at));
  return `rgb(${CIVIDIS[i].map((v, k) => Math.round(v + (CIVIDIS[i + 1][k] - v) * (at - i))).join(" ")})`;
}

/** Whether black reads better on it than white. */
export function isBright(t) {
  const [r, g, b] = cividis(t)
    .match(/\d+/g)
    .map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179;
}

export const goodness = errors([0.1, 0.9965], [0, 1]);
export const num = (v) => (typeof v === "number" ? v : JSON.stringify(v));
/** The values of a parameter, in order. */
export function distinct(points, name) {
  const values = new Map(
    points.filter((p) => name in p.parameters).map((p) => [JSON.stringify(p.parameters[name]), p.parameters[name]]),
  );
  return [...values.values()].sort((a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : num(a).localeCompare(num(b), "en", { numeric: true }),
  );
}
export const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

const NAMELESS = new Set(["model.hidden_sizes", "model.activation"]);

/** A point in words. */
export const describe = (parameters) =>
  Object.entries(parameters)
    .map(([name, v]) =>
      NAMELESS.has(name) ? value(name, v) : `${LONG[name] ?? name.split(".").at(-1)} ${value(name, v)}`,
    )
    .join(", ") || "the base";

export const longName = (path) => LONG[path] ?? path.split(".").slice(-1)[0].replaceAll("_", " ");

/** The searched parameters, the strongest first, as the report's effects have them. */
export const pathsOf = (report) => report.effects.map((each) => each.path);

/** Whether a parameter has so many values that it was drawn from a range. */
export const isRange = (report, path) => distinct(report.points, path).length > 24;
