// Accuracy against what it costs, and what each parameter does.
import { h, replace, s } from "../dom.js";
import { int, pct, short, value } from "../format.js";
import { band, errors, linear, log, path } from "../scales.js";
import { describe, distinct, longName, num, same } from "./link.js";

const MAX_VALUES = 12; // of a parameter; with more, the report has quarters: [lowest, highest] of each

/** A frame with axes, drawn anew when its width changes; `draw` may return layers that lie under the axes. */
export function frame(height, summary, draw) {
  const root = h(".chart", { role: "img", "aria-label": summary });
  new ResizeObserver(([entry]) => {
    const width = entry.contentRect.width;
    if (!width) return;
    const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, height, "aria-hidden": "true" });
    const layers = draw(svg, width, height) ?? [];
    replace(root, layers, svg);
    root.relight?.();
  }).observe(root);
  return root;
}

export function axes(
  svg,
  x,
  y,
  { left, right, top, bottom, width, height, formatX, formatY, labelX, ticksX, ticksY = 5 },
) {
  for (const tick of y.ticks(ticksY))
    svg.append(
      s("line.grid", { x1: left, x2: width - right, y1: y(tick), y2: y(tick) }),
      s("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, formatY(tick)),
    );
  svg.append(s("line.axis", { x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }));
  for (const tick of ticksX ?? x.ticks(5))
    svg.append(s("text", { x: x(tick), y: height - bottom + 16, "text-anchor": "middle" }, formatX(tick)));
  if (labelX) svg.append(s("text", { x: width - right, y: height - 2, "text-anchor": "end" }, labelX));
}

/** Accuracy against what it costs; the front is ringed and joined. */
export function scatter(report, link, against) {
  const cost = {
    epochs: ["mean_epochs_to_plateau", "epochs to the plateau", false],
    parameters: ["num_parameters", "parameters", true],
  }[against];
  const points = report.points.filter((p) => p.mean_val_accuracy != null && p[cost[0]] != null);
  if (!points.length) return h("p.small.faint", "No point has a result yet.");
  const front = [];
  for (const p of [...points].sort((a, b) => a[cost[0]] - b[cost[0]] || b.mean_val_accuracy - a.mean_val_accuracy))
    if (!front.length || p.mean_val_accuracy > front.at(-1).mean_val_accuracy) front.push(p);
  const sizes = points.map((p) => p.num_parameters);
  const radius = linear([Math.log(Math.min(...sizes)), Math.log(Math.max(...sizes) + 1)], [3.2, 7]);
  const root = frame(326, `Accuracy against ${cost[1]}: ${front.length} points on the front`, (svg, width, height) => {
    const box = { left: 44, right: 12, top: 12, bottom: 36, width, height };
    const values = points.map((p) => p[cost[0]]);
    const x = cost[2]
      ? log([Math.min(...values) * 0.85, Math.max(...values) * 1.15], [box.left, width - box.right])
      : linear([0, Math.max(...values) * 1.04], [box.left, width - box.right], true);
    const y = errors([0.05, 0.9965], [height - box.bottom, box.top]);
    axes(svg, x, y, { ...box, formatX: (v) => int(v), formatY: (v) => pct(v, v > 0.99 ? 1 : 0), labelX: cost[1] });
    svg.append(
      s("path", {
        d:
          front
            .map(
              (p, i) =>
                `${i ? `H${x(p[cost[0]]).toFixed(1)}V` : `M${x(p[cost[0]]).toFixed(1)} `}${y(p.mean_val_accuracy).toFixed(1)}`,
            )
            .join("") + `H${width - box.right}`,
        fill: "none",
        stroke: "var(--ink-3)",
        "stroke-width": 1,
        "stroke-dasharray": "3 3",
      }),
    );
    for (const p of points) {
      const onFront = front.includes(p);
      const best = p.point_number === report.noise?.best_point;
      const dot = s("circle", {
        cx: x(p[cost[0]]),
        cy: y(p.mean_val_accuracy),
        r: radius(Math.log(p.num_parameters)),
        class: `pt${onFront ? " front" : ""}${best ? " best" : ""}`,
        "data-point": p.point_number,
      });
      svg.append(link.on(dot, p.point_number));
    }
  });
  lightPoints(
    root,
    link,
    report,
    (p) =>
      `${pct(p.mean_val_accuracy)} · ${int(p.mean_epochs_to_plateau)} epochs · ${int(p.num_parameters)} parameters`,
  );
  return root;
}

export function lightPoints(root, link, report, text) {
  root.relight = () => {
    root.querySelector(".tip")?.remove();
    root.querySelector(".lit")?.classList.remove("lit");
    const dot = link.point === null ? null : root.querySelector(`[data-point="${link.point}"]`);
    if (!dot) return;
    dot.classList.add("lit");
    if (dot.parentNode.lastChild !== dot) dot.parentNode.append(dot);
    if (text) {
      const p = report.points.find((each) => each.point_number === link.point);
      const [cx, cy] = [Number(dot.getAttribute("cx")), Number(dot.getAttribute("cy"))];
      const tip = h(".tip", h("b", describe(p.parameters)), h("div.muted", text(p)));
      root.append(tip);
      tip.style.top = `${cy + 14}px`;
      tip.style.left = `${Math.max(0, Math.min(cx - tip.offsetWidth / 2, root.clientWidth - tip.offsetWidth))}px`;
    }
  };
  link.addEventListener("change", root.relight);
}

/** What one parameter does: every point, and mean ± standard error of each of its values. */
export function effect(report, item, link) {
  const values = item.values.map((each) => each.value);
  const names = values.map(num);
  const hasQuarters = distinct(report.points, item.path).length > MAX_VALUES;
  const write = (v) => (hasQuarters ? `≤ ${short(Number(v[1].toPrecision(2)))}` : value(item.path, v));
  const placeOf = (v) => {
    const i = values.findIndex((each) => (hasQuarters ? v >= each[0] && v <= each[1] : same(each, v)));
    return i < 0 ? null : names[i];
  };
  const root = frame(168, `Effect of ${longName(item.path)}`, (svg, width, height) => {
    const box = { left: 38, right: 8, top: 8, bottom: 22, width, height };
    const x = band(names, [box.left, width - box.right]);
    const y = linear([0, 1], [height - box.bottom, box.top]);
    axes(svg, x, y, {
      ...box,
      formatX: (v) => write(values[names.indexOf(v)]),
      formatY: (v) => pct(v, 0),
      ticksX: names,
      ticksY: 4,
    });
    for (const p of report.points) {
      const v = placeOf(p.parameters[item.path]);
      if (p.mean_val_accuracy == null || v === null) continue;
      const spread = (((p.point_number * 37) % 17) / 16 - 0.5) * Math.min(18, x.step * 0.5);
      svg.append(
        link.on(
          s("circle.pt.small", { cx: x(v) + spread, cy: y(p.mean_val_accuracy), r: 2.6, "data-point": p.point_number }),
          p.point_number,
        ),
      );
    }
    const numeric = hasQuarters || typeof values[0] === "number";
    if (numeric)
      svg.append(
        s("path.series.s-c1", {
          d: path(
            names,
            item.values.map((each) => each.mean_val_accuracy),
            x,
            y,
          ),
        }),
      );
    for (const each of item.values) {
      const at = x(num(each.value));
      svg.append(
        s("line", {
          x1: at,
          x2: at,
          y1: y(each.mean_val_accuracy - (each.standard_error ?? 0)),
          y2: y(each.mean_val_accuracy + (each.standard_error ?? 0)),
          class: "s-c1",
          "stroke-width": 2,
        }),
        s("circle.dot.f-c1", { cx: at, cy: y(each.mean_val_accuracy), r: 4.5 }),
      );
    }
  });
  lightPoints(root, link, report);
  return root;
}
