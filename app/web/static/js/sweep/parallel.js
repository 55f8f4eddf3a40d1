// A line for each point across its parameters and results; a drag along an axis keeps a range.
import { h, replace, s } from "../dom.js";
import { int, pct, short, value } from "../format.js";
import { band, errors, linear, ticks } from "../scales.js";
import { Kept } from "./keep.js";
import { makeLines } from "./lines.js";
import { cividis, distinct, goodness, isRange, longName, num, pathsOf } from "./link.js";
import { frame } from "./scatter.js";

const HEIGHT = 328;
const [TOP, BOTTOM] = [30, HEIGHT - 12];
const CLICK_PX = 4;
const LABEL_PX = 100; // between axes that are nearer, names stand in two rows

/** An axis: `of` a point the value on it, which is a value's number where there are few of them. */
function parameter(report, name) {
  const values = isRange(report, name) ? null : distinct(report.points, name);
  const names = values?.map(num);
  const of = (p) => (names ? names.indexOf(num(p.parameters[name])) : p.parameters[name]);
  return { name, label: longName(name), values, isSearched: true, of: (p) => (name in p.parameters ? of(p) : null) };
}

const RESULTS = [
  { name: "mean_epochs_to_plateau", label: "epochs to plateau", of: (p) => p.mean_epochs_to_plateau },
  { name: "mean_val_accuracy", label: "val accuracy", of: (p) => p.mean_val_accuracy, errors: true },
];

function place(dim, points) {
  if (dim.values) return placeValues(dim);
  const all = points.map(dim.of).filter((v) => v != null);
  const most = Math.max(...all, 1e-9);
  const least = dim.isSearched ? Math.min(...all) : 0;
  const isWhole = dim.isSearched ? all.every(Number.isInteger) : !dim.errors;
  // Accuracy by its error, costs downwards, what was drawn from a range upwards.
  if (dim.errors) dim.y = errors([0.05, 0.9965], [BOTTOM, TOP]);
  else dim.y = dim.isSearched ? linear([least, most], [BOTTOM, TOP]) : linear([most, 0], [BOTTOM, TOP]);
  dim.write = (v) => (dim.errors ? pct(v, v > 0.99 ? 1 : 0) : dim.isSearched ? short(v) : int(v));
  dim.ticks = (dim.errors ? dim.y.ticks(8) : ticks(least, most, 4, isWhole)).map((v) => [dim.y(v), dim.write(v)]);
  return dim;
}

function placeValues(dim) {
  const numbers = dim.values.map((_, i) => i);
  const { step } = band(numbers, [BOTTOM, TOP]);
  dim.y = (i) => BOTTOM + step * (i + 0.5);
  dim.y.invert = (y) => (y - BOTTOM) / step - 0.5;
  dim.write = (i) => value(dim.name, dim.values[Math.max(0, Math.min(dim.values.length - 1, i))]);
  dim.ticks = numbers.map((i) => [dim.y(i), dim.write(i)]);
  return dim;
}

/** The range of an axis between two places on it. */
function rangeOf(dim, a, b) {
  const [lo, hi] = [dim.y.invert(a), dim.y.invert(b)].sort((one, other) => one - other);
  return dim.values ? [Math.ceil(lo), Math.floor(hi)] : [lo, hi];
}

const isIn = ([lo, hi], v) => v != null && v >= lo && v <= hi;

export function parallel(report, link) {
  const points = report.points.filter((p) => p.mean_val_accuracy != null);
  const dims = [...pathsOf(report).map((name) => parameter(report, name)), ...RESULTS.map((each) => ({ ...each }))];
  for (const dim of dims) place(dim, points);
  const kept = new Kept(dims.map((dim) => dim.name));
  const isKept = (p) => kept.entries.every(([name, range]) => isIn(range, dims.find((d) => d.name === name).of(p)));
  const said = h(".kept.small", { role: "status" });
  let lines = null;
  const root = frame(HEIGHT, "A line for each point of the search", (svg, width, height) => {
    const x = linear([0, dims.length - 1], [36, width - 44]);
    const xs = dims.map((_, i) => x(i));
    lines = makeLines(root, link, linesOf(points, dims), xs, { width, height });
    const isNarrow = width < LABEL_PX * dims.length;
    dims.forEach((dim, i) => {
      const side = i === 0 ? -1 : i === dims.length - 1 ? 1 : 0;
      drawAxis(svg, dim, { x: x(i), side, labelY: isNarrow && i % 2 ? 1 : 15 }, kept);
    });
    show();
    return lines.layers;
  });
  function show() {
    const left = new Set(points.filter(isKept).map((p) => p.point_number));
    lines?.keep((point) => left.has(point));
    replace(said, kept.entries.length > 0 && sayKept(dims, kept, left.size, points.length));
    root.dataset.kept = left.size;
  }
  root.classList.add("layered");
  root.relight = () => lines?.light();
  link.addEventListener("change", root.relight);
  kept.addEventListener("change", show);
  show();
  return h("div", root, said);
}

function linesOf(points, dims) {
  const spread = (dim, p) => (dim.values ? ((p.point_number * 13) % 11) - 5 : 0);
  return [...points]
    .sort((a, b) => a.mean_val_accuracy - b.mean_val_accuracy)
    .map((p) => ({
      point: p.point_number,
      colour: cividis(goodness(p.mean_val_accuracy)),
      ys: dims.map((dim) => (dim.of(p) == null ? BOTTOM : dim.y(dim.of(p)) + spread(dim, p))),
    }));
}

function sayKept(dims, kept, n, all) {
  const parts = kept.entries.map(([name, [lo, hi]]) => {
    const dim = dims.find((each) => each.name === name);
    if (lo > hi) return `no ${dim.label}`;
    return lo === hi ? `${dim.label} ${dim.write(lo)}` : `${dim.label} ${dim.write(lo)} to ${dim.write(hi)}`;
  });
  return [
    h("b", `${int(n)} of ${int(all)} points`),
    ` with ${parts.join(", ")} `,
    h("button.chip.line", { onclick: () => kept.clear() }, "keep all"),
  ];
}

/** An axis with its values; a drag along it keeps a range, a click on a value keeps this one, a click beside them all. */
function drawAxis(svg, dim, { x, side, labelY }, kept) {
  const anchor = ["start", "middle", "end"][side + 1];
  svg.append(
    s("line.axis", { x1: x, x2: x, y1: TOP - 6, y2: BOTTOM + 6 }),
    s("text.direct", { x, y: labelY, "text-anchor": anchor, dx: [-30, 0, 40][side + 1] }, dim.label),
    ...dim.ticks.map(([at, text]) => s("text.halo", { x: x + 6, y: at + 4 }, text)),
  );
  const brush = s("rect.brush", { x: x - 6, width: 12, y: 0, height: 0 });
  const size = { y: TOP - 6, height: BOTTOM - TOP + 12 };
  const grip = s("rect.grip", { x: x - 14, width: 28, fill: "transparent", "data-axis": dim.name, ...size });
  svg.append(brush, grip);
  const show = () => {
    const range = kept.get(dim.name);
    const ends = (range ?? [0, 0]).map((v) => Math.max(TOP - 6, Math.min(BOTTOM + 6, dim.y(v))));
    const margin = range && dim.values ? 8 : 0;
    brush.setAttribute("y", Math.min(...ends) - margin);
    brush.setAttribute("height", range ? Math.abs(ends[1] - ends[0]) + 2 * margin : 0);
  };
  kept.addEventListener("change", show);
  show();
  let from = null;
  const at = (event) => event.clientY - svg.getBoundingClientRect().top;
  grip.addEventListener("pointerdown", (event) => {
    grip.setPointerCapture(event.pointerId);
    from = at(event);
  });
  grip.addEventListener("pointermove", (event) => {
    if (from !== null && Math.abs(at(event) - from) >= CLICK_PX) kept.set(dim.name, rangeOf(dim, from, at(event)));
  });
  grip.addEventListener("pointercancel", () => (from = null));
  grip.addEventListener("pointerup", (event) => {
    const isClick = Math.abs(at(event) - from) < CLICK_PX;
    from = null;
    if (!isClick) return;
    const value = dim.values && !kept.get(dim.name) ? Math.round(dim.y.invert(at(event))) : null;
    kept.set(dim.name, value !== null && value in dim.values ? [value, value] : null);
  });
}
