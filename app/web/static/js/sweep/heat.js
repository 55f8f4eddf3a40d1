// A grid as facets of cells: two parameters span a facet, the rest make facets.
import { h } from "../dom.js";
import { pct, value } from "../format.js";
import { cividis, describe, distinct, goodness, isBright, isRange, longName, pathsOf, same } from "./link.js";

const MAX_CELLS = 2000;

/** Whether the points can be shown as cells: two parameters or more with few values each. */
export function canBeHeat(report) {
  const paths = pathsOf(report);
  if (paths.length < 2 || paths.some((path) => isRange(report, path))) return false;
  return paths.reduce((n, path) => n * distinct(report.points, path).length, 1) <= MAX_CELLS;
}

export function heatMap(report, link, { x, y }) {
  const facets = pathsOf(report).filter((name) => name !== x && name !== y);
  const xs = distinct(report.points, x);
  const ys = distinct(report.points, y).reverse();
  const combine = (names) =>
    names.length
      ? distinct(report.points, names[0]).flatMap((v) =>
          combine(names.slice(1)).map((rest) => ({ [names[0]]: v, ...rest })),
        )
      : [{}];
  const root = h(".heats", { role: "group", "aria-label": `Val accuracy by ${longName(x)} and ${longName(y)}` });
  for (const facet of combine(facets)) root.append(makeFacet(report, link, { x, y, xs, ys, facet }));
  link.addEventListener("change", () => {
    root.querySelector(".lit")?.classList.remove("lit");
    if (link.point !== null) root.querySelector(`[data-point="${link.point}"]`)?.classList.add("lit");
  });
  return root;
}

function makeFacet(report, link, { x, y, xs, ys, facet }) {
  const grid = h(".heat", { style: { "--columns": xs.length } });
  const find = (xv, yv) =>
    report.points.find(
      (p) =>
        same(p.parameters[x], xv) &&
        same(p.parameters[y], yv) &&
        Object.entries(facet).every(([name, v]) => same(p.parameters[name], v)),
    );
  for (const yv of ys)
    grid.append(h("span.heat-y", value(y, yv)), ...xs.map((xv) => makeCell(report, link, find(xv, yv))));
  grid.append(h("span"), ...xs.map((xv) => h("span.heat-x", value(x, xv))));
  const caption = Object.entries(facet).map(([name, v], i) => [
    i ? " · " : "",
    h("b", name === "model.activation" ? value(name, v) : `${longName(name)} ${value(name, v)}`),
  ]);
  return h("figure", caption.length > 0 && h("figcaption", caption), grid);
}

function makeCell(report, link, point) {
  if (!point) return h("span");
  const accuracy = point.mean_val_accuracy;
  if (accuracy == null)
    return h(
      "button.cell.none",
      { "aria-label": `${describe(point.parameters)}: no result`, dataset: { point: point.point_number } },
      "–",
    );
  const t = goodness(accuracy);
  const looks = [
    isBright(t) && "bright",
    point.is_within_noise && "noise",
    point.point_number === report.noise?.best_point && "best",
  ];
  const cell = h(
    "button.cell",
    {
      "aria-label": `${describe(point.parameters)}: ${pct(accuracy)}`,
      class: looks.filter(Boolean).join(" "),
      style: { background: cividis(t) },
      dataset: { point: point.point_number },
    },
    (accuracy * 100).toFixed(accuracy < 0.995 && accuracy > 0.9 ? 1 : 0),
  );
  return link.on(cell, point.point_number);
}
