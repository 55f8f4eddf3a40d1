// A line for each point across its parameters and results; a drag along an axis keeps a range.
import { s } from "../dom.js";
import { int, pct, short, value } from "../format.js";
import { band, errors, linear, ticks } from "../scales.js";
import { cividis, distinct, goodness, isRange, longName, num, pathsOf } from "./link.js";
import { frame, lightPoints } from "./scatter.js";

function dimension(report, name) {
  const values = isRange(report, name) ? null : distinct(report.points, name);
  return { name, label: longName(name), of: (p) => p.parameters[name], values, isSearched: true };
}

/** An axis of numbers: accuracy by its error, costs downwards, what was drawn from a range upwards. */
function placeNumbers(dim, all, top, bottom) {
  const most = Math.max(...all, 1e-9);
  const least = dim.isSearched ? Math.min(...all) : 0;
  if (dim.errors) dim.y = errors([0.05, 0.9965], [bottom, top]);
  else dim.y = dim.isSearched ? linear([least, most], [bottom, top]) : linear([most, 0], [bottom, top]);
  const write = (v) => (dim.errors ? pct(v, v > 0.99 ? 1 : 0) : dim.isSearched ? short(v) : int(v));
  dim.ticks = (dim.errors ? dim.y.ticks(8) : ticks(least, most, 4)).map((v) => [dim.y(v), write(v)]);
}

export function parallel(report, link) {
  const dims = [
    ...pathsOf(report).map((name) => dimension(report, name)),
    { label: "epochs to plateau", of: (p) => p.mean_epochs_to_plateau },
    { label: "val accuracy", of: (p) => p.mean_val_accuracy, errors: true },
  ];
  const ranges = new Map();
  const place = (dim, p) =>
    (dim.of(p) == null ? 0 : dim.y(dim.of(p))) + (dim.values ? ((p.point_number * 13) % 11) - 5 : 0);
  const root = frame(328, "A line for each point of the search", (svg, width, height) => {
    const [top, bottom] = [30, height - 12];
    const x = linear([0, dims.length - 1], [36, width - 44]);
    for (const dim of dims) {
      if (dim.values) {
        const inner = band(dim.values.map(num), [bottom, top]);
        dim.y = (v) => inner(num(v));
        dim.ticks = dim.values.map((v) => [dim.y(v), value(dim.name, v)]);
      } else {
        placeNumbers(
          dim,
          report.points.map(dim.of).filter((v) => v != null),
          top,
          bottom,
        );
      }
    }
    const lines = s("g");
    const order = report.points
      .filter((p) => p.mean_val_accuracy != null)
      .sort((a, b) => a.mean_val_accuracy - b.mean_val_accuracy);
    for (const p of order) {
      const d = dims.map((dim, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${place(dim, p).toFixed(1)}`).join("");
      lines.append(
        link.on(
          s("path.strand", { d, stroke: cividis(goodness(p.mean_val_accuracy)), "data-point": p.point_number }),
          p.point_number,
        ),
      );
    }
    svg.append(lines);
    dims.forEach((dim, i) => {
      svg.append(s("line.axis", { x1: x(i), x2: x(i), y1: top - 6, y2: bottom + 6 }));
      svg.append(
        s(
          "text.direct",
          {
            x: x(i),
            y: 14,
            "text-anchor": i === 0 ? "start" : i === dims.length - 1 ? "end" : "middle",
            dx: i === 0 ? -30 : i === dims.length - 1 ? 40 : 0,
          },
          dim.label,
        ),
      );
      for (const [at, text] of dim.ticks) svg.append(s("text.halo", { x: x(i) + 6, y: at + 4 }, text));
      const brush = s("rect.brush", { x: x(i) - 6, width: 12, y: 0, height: 0 });
      const grip = s("rect", {
        x: x(i) - 14,
        width: 28,
        y: top - 6,
        height: bottom - top + 12,
        fill: "transparent",
        class: "grip",
      });
      svg.append(brush, grip);
      let from = null;
      const at = (event) => event.clientY - svg.getBoundingClientRect().top;
      grip.addEventListener("pointerdown", (event) => {
        grip.setPointerCapture(event.pointerId);
        from = at(event);
      });
      grip.addEventListener(
        "pointermove",
        (event) => from !== null && keep([Math.min(from, at(event)), Math.max(from, at(event))]),
      );
      grip.addEventListener("pointerup", (event) => {
        if (Math.abs(at(event) - from) < 4) keep(null);
        from = null;
      });
      const keep = (range) => {
        range ? ranges.set(i, range) : ranges.delete(i);
        brush.setAttribute("y", range?.[0] ?? 0);
        brush.setAttribute("height", range ? range[1] - range[0] : 0);
        for (const line of lines.children) {
          const p = report.points.find((each) => String(each.point_number) === line.dataset.point);
          line.classList.toggle(
            "out",
            [...ranges].some(([k, [lo, hi]]) => dims[k].y(dims[k].of(p)) < lo || dims[k].y(dims[k].of(p)) > hi),
          );
        }
      };
    });
  });
  lightPoints(root, link, report);
  return root;
}
