// The cards of a sweep: the answer, the picture of the search, accuracy against cost, and the table of all points.
import { setState } from "../address.js";
import { h, replace } from "../dom.js";
import { int, LABELS, pct, value } from "../format.js";
import { virtualBody } from "../virtual.js";
import { canBeHeat, heatMap } from "./heat.js";
import { describe, longName, pathsOf } from "./link.js";
import { parallel } from "./parallel.js";
import { scatter } from "./scatter.js";

export function answerCard(report, link, onReveal) {
  const { noise, choice } = report;
  const by = (number) => report.points.find((p) => p.point_number === number);
  const podium = (name, p, figure) =>
    p &&
    link.on(
      h(
        "button.podium",
        { onclick: () => onReveal(p.point_number), dataset: { point: p.point_number } },
        h("span.small.faint", name),
        h("b", figure),
        h("span.small.muted", describe(p.parameters)),
      ),
      p.point_number,
    );
  const root = h(
    "section.card.answerline",
    { "aria-label": "The answer" },
    h("p.sentence", report.answer),
    noise &&
      h(
        ".podiums",
        podium(
          choice ? "chosen" : "best",
          by(choice?.point_number ?? noise.best_point),
          pct(by(choice?.point_number ?? noise.best_point).mean_val_accuracy),
        ),
        podium(
          "smallest within noise",
          by(noise.smallest_point),
          `${int(by(noise.smallest_point).num_parameters)} parameters`,
        ),
        podium(
          "quickest within noise",
          by(noise.quickest_point),
          `${int(by(noise.quickest_point).mean_epochs_to_plateau)} epochs`,
        ),
      ),
  );
  link.addEventListener("change", () => {
    for (const each of root.querySelectorAll(".podium"))
      each.classList.toggle("lit", each.dataset.point === String(link.point));
  });
  return root;
}

export function pictureCard(report, link, state) {
  const canHeat = canBeHeat(report);
  const paths = pathsOf(report);
  const stage = h(".body.stage");
  const note = h("span.note");
  const numeric = paths.filter((path) => report.points.every((p) => typeof p.parameters[path] === "number"));
  const x = paths.includes(state.get("x")) ? state.get("x") : (numeric[0] ?? paths[0]);
  const y =
    paths.includes(state.get("y")) && state.get("y") !== x
      ? state.get("y")
      : (paths.find((path) => path === "model.hidden_sizes" && path !== x) ?? paths.find((path) => path !== x));
  const names = canHeat ? { heat: "Heat map", parallel: "Parallel" } : { parallel: "Parallel" };
  const buttons = Object.entries(names).map(([key, text]) =>
    h("button", { value: key, onclick: () => choose(key) }, text),
  );
  function choose(name) {
    setState({ view: name === Object.keys(names)[0] ? null : name });
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.value === name));
    replace(
      note,
      name === "heat"
        ? [`columns: ${longName(x)}, rows: ${longName(y)} · `, h("i.ring"), " within noise of the best"]
        : "a line for each point; drag along an axis to keep a range, click a value",
    );
    replace(stage, name === "heat" ? heatMap(report, link, { x, y }) : parallel(report, link));
  }
  choose(state.get("view") in names ? state.get("view") : Object.keys(names)[0]);
  return h(
    "section.card.s-heat",
    h(
      "header",
      h("h2", "Val accuracy, %"),
      note,
      buttons.length > 1 && h("span.end", h(".seg", { role: "group", "aria-label": "Picture" }, buttons)),
    ),
    stage,
  );
}

export function costCard(report, link, state) {
  const body = h(".body");
  const names = { epochs: "Epochs", parameters: "Size" };
  const buttons = Object.entries(names).map(([key, text]) =>
    h("button", { value: key, onclick: () => choose(key) }, text),
  );
  function choose(name) {
    setState({ against: name === "epochs" ? null : name });
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.value === name));
    replace(body, scatter(report, link, name));
  }
  choose(state.get("against") in names ? state.get("against") : "epochs");
  return h(
    "section.card.s-cost",
    h(
      "header",
      h("h2", "Accuracy against cost"),
      h("span.note.wide", "size of a dot: parameters"),
      h("span.end", h(".seg", { role: "group", "aria-label": "Against" }, buttons)),
    ),
    body,
  );
}

/** The table of all points; only rows in sight are in the document. */
export function pointsBody(report, link) {
  const scroller = h(".scroller", { tabindex: 0, role: "region", "aria-label": "All points" });
  const { noise } = report;
  const chip = (path, v) =>
    h(
      "span.chip",
      path === "model.hidden_sizes" || path === "model.activation" ? "" : `${LABELS[path] ?? longName(path)} `,
      h("b", value(path, v)),
    );
  const body = virtualBody(
    scroller,
    () => 37,
    (i) => {
      const p = report.points[i];
      return h(
        "tr",
        {
          class: p.point_number === link.point ? "lit" : "",
          dataset: { point: p.point_number },
          onpointerenter: () => link.set(p.point_number),
          onpointerleave: () => link.set(null),
        },
        h("td.num.faint", p.rank === null ? "–" : String(p.rank)),
        h(
          "td",
          h(
            ".chips",
            Object.entries(p.parameters).map(([path, v]) => chip(path, v)),
          ),
        ),
        h("td.num", h("b.acc", pct(p.mean_val_accuracy, 1))),
        h("td.num.muted.wide", int(p.num_parameters)),
        h("td.num.muted.wide", int(p.mean_epochs_to_plateau)),
        h(
          "td",
          h(
            ".chips",
            p.point_number === noise?.best_point && h("span.chip.accent", "★ best"),
            p.is_within_noise && p.point_number !== noise?.best_point && h("span.chip.good", "within noise"),
            p.point_number === noise?.smallest_point && h("span.chip.line", "smallest"),
            p.point_number === noise?.quickest_point && h("span.chip.line", "quickest"),
          ),
        ),
      );
    },
  );
  link.addEventListener("change", () => {
    for (const row of body.rows) row.classList.toggle("lit", row.dataset.point === String(link.point));
  });
  const heads = [
    ["#", "num"],
    ["Point", ""],
    ["Val accuracy", "num"],
    ["Parameters", "num wide"],
    ["Plateau", "num wide"],
    [h("span.sr", "what it is"), ""],
  ];
  scroller.append(
    h(
      "table.table.points",
      { "aria-rowcount": report.points.length + 1 },
      h(
        "thead",
        h(
          "tr",
          heads.map(([name, cls]) => h("th", { scope: "col", class: cls }, name)),
        ),
      ),
      body,
    ),
  );
  body.scroller = scroller;
  return body;
}
