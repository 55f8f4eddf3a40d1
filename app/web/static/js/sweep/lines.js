// The lines of parallel coordinates: SVG up to some hundreds, beyond that two canvases, so that a hover stays cheap.
import { s } from "../dom.js";
import { colourOf, layer, onTheme, prepare, trace } from "./canvas.js";

const MAX_SVG = 300;
const NEAR_PX = 8; // so near to a line, a pointer on the canvas means it

/**
 * @param {HTMLElement} root of the chart; `link` is told which line is under the pointer
 * @param {object[]} lines [{point, colour, ys}] in the order of drawing; `ys` in pixels, one for each axis
 * @returns {object} layers to put under the axes; `keep(isKept)` greys out the others; `light()` shows the link's point
 */
export const makeLines = (root, link, lines, xs, size) =>
  (lines.length > MAX_SVG ? onCanvas : inSvg)(root, link, lines, xs, size);

function inSvg(root, link, lines, xs, { width, height }) {
  const svg = s("svg.layer", { viewBox: `0 0 ${width} ${height}`, height });
  const paths = new Map(
    lines.map(({ point, colour, ys }) => {
      const d = ys.map((y, i) => `${i ? "L" : "M"}${xs[i].toFixed(1)} ${y.toFixed(1)}`).join("");
      return [point, link.on(s("path.strand", { d, stroke: colour, "data-point": point }), point)];
    }),
  );
  svg.append(...paths.values());
  let lit = null;
  return {
    layers: [svg],
    keep: (isKept) => paths.forEach((line, point) => line.classList.toggle("out", !isKept(point))),
    light() {
      lit?.classList.remove("lit");
      lit = paths.get(link.point) ?? null;
      lit?.classList.add("lit");
      if (lit) svg.append(lit);
    },
  };
}

function onCanvas(root, link, lines, xs, { width, height }) {
  const [base, over] = [layer(), layer()];
  const byPoint = new Map(lines.map((line) => [line.point, line]));
  let kept = lines;
  const draw = () => {
    const pencil = prepare(base, width, height);
    const left = new Set(kept);
    pencil.lineWidth = 1;
    pencil.globalAlpha = 0.3;
    pencil.strokeStyle = colourOf(root, "--line");
    for (const line of lines) if (!left.has(line)) trace(pencil, xs, line.ys);
    pencil.globalAlpha = Math.max(0.2, Math.min(0.62, 300 / kept.length));
    for (const line of kept) {
      pencil.strokeStyle = line.colour;
      trace(pencil, xs, line.ys);
    }
  };
  const light = () => {
    const pencil = prepare(over, width, height);
    const line = byPoint.get(link.point);
    if (line) root.dataset.lit = line.point;
    else delete root.dataset.lit;
    if (!line) return;
    pencil.strokeStyle = colourOf(root, "--val");
    pencil.lineWidth = 2.6;
    trace(pencil, xs, line.ys);
  };
  root.onpointermove = (event) => {
    if (event.buttons) return; // a drag along an axis
    const box = root.getBoundingClientRect();
    link.set(nearest(kept, xs, event.clientX - box.left, event.clientY - box.top));
  };
  root.onpointerleave = () => link.set(null);
  onTheme(base, () => {
    draw();
    light();
  });
  draw();
  return {
    layers: [base, over],
    keep(isKept) {
      kept = lines.filter((line) => isKept(line.point));
      draw();
    },
    light,
  };
}

/** The point whose line passes nearest to a place, null if none does. */
function nearest(lines, xs, x, y) {
  const i = Math.max(0, Math.min(xs.length - 2, xs.findLastIndex((each) => each <= x)));
  const t = Math.max(0, Math.min(1, (x - xs[i]) / (xs[i + 1] - xs[i])));
  let [best, distance] = [null, NEAR_PX];
  for (const { point, ys } of lines) {
    const d = Math.abs(ys[i] + (ys[i + 1] - ys[i]) * t - y);
    if (d < distance) [best, distance] = [point, d];
  }
  return best;
}
