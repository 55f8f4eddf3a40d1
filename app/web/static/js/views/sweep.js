// A sweep: the answer in a sentence, then the pictures that it rests on, all linked, then every point in a table.
import { link as address, setState } from "../address.js";
import * as api from "../api.js";
import { download, h, replace } from "../dom.js";
import { int, LABELS, pct, seconds, value } from "../format.js";
import { icon, stateIcon } from "../icons.js";
import { guard } from "../keys.js";
import { attempt } from "../run/actions.js";
import { store } from "../store.js";
import { canBeHeat, heatMap } from "../sweep/heat.js";
import { describe, Link, longName, pathsOf } from "../sweep/link.js";
import { parallel } from "../sweep/parallel.js";
import { effect, scatter } from "../sweep/scatter.js";
import { strands } from "../sweep/strands.js";
import { virtualBody } from "../virtual.js";

export const title = "Sweep";
const CURVE_POINTS = 40;
const REFRESH_MS = 2000;
const FINAL = new Set(["succeeded", "failed", "cancelled"]);

export async function show({ state, rest: [id] }) {
  const root = h(".page.sweep");
  let sweep = await api.sweep(id);
  let timer = null;
  let body = null;

  async function draw() {
    const [report, curves] = await Promise.all([api.report(id), api.series(null, CURVE_POINTS, ["val_accuracy"], id)]);
    body?.leave();
    const link = new Link();
    body = pointsBody(report, link);
    replace(root, head(sweep, refresh), report.points.some((p) => p.mean_val_accuracy != null) ? cards(report, curves, link, body, state) : waiting(sweep));
    body.setCount(report.points.length);
    const point = Number(state.get("point"));
    if (state.has("point")) reveal(report, link, body, point);
  }
  async function refresh() {
    timer = null;
    const before = sweep.status;
    sweep = await api.sweep(id);
    if (FINAL.has(sweep.status) || before === "queued") return draw();
    return root.querySelector(".head")?.replaceWith(head(sweep, refresh));
  }
  const onEvent = ({ detail }) => {
    if (detail.sweep_id === id && detail.type !== "metric") timer ??= setTimeout(() => refresh().catch(() => {}), REFRESH_MS);
  };
  store.addEventListener("event", onEvent);
  await draw();
  return { title: sweep.name || "Sweep", root, leave() {
    clearTimeout(timer);
    body?.leave();
    store.removeEventListener("event", onEvent);
  } };
}

function head(sweep, onChange) {
  const { progress } = sweep;
  const ended = progress.succeeded + progress.failed + progress.cancelled;
  const time = sweep.finished_at ? ` in ${seconds((new Date(sweep.finished_at) - new Date(sweep.created_at)) / 1000)}` : "";
  return h(".head",
    h("h1", h("a.crumb", { href: "#/sweeps" }, "Sweeps"), h("span.crumb", " / "), h("span", { dir: "auto" }, sweep.name || "unnamed sweep")),
    h("span.status", { class: sweep.status }, stateIcon(sweep.status), FINAL.has(sweep.status) ? `${int(progress.trials)} trials${time}` : `${int(ended)} of ${int(progress.trials)} trials ended`),
    progress.failed > 0 && h("span.chip.bad", `${int(progress.failed)} failed`),
    h(".end",
      h("a.btn", { href: address("sweeps", { from: sweep.id }) }, icon("play"), "Sweep again with …"),
      h("a.btn.wide", { href: address("runs", { sweep: sweep.id, sort: "-val_accuracy" }) }, icon("runs"), "Trials"),
      h("button.btn.wide", { onclick: () => attempt(async () => download(await api.reportFile(sweep.id), `${sweep.id}-report.csv`)) }, icon("down"), "CSV"),
      !FINAL.has(sweep.status) && guard(h("button.btn", { onclick: async () => (await attempt(() => api.cancelSweep(sweep.id), "It is cancelled at the next epoch.")) && onChange() }, "Cancel"))));
}

function waiting(sweep) {
  return h("section.card.full", h(".empty", h("strong", FINAL.has(sweep.status) ? "No trial has a result" : "No trial has ended yet"),
    h("span", `${int(sweep.progress.queued)} queued, ${int(sweep.progress.running)} running, ${int(sweep.progress.failed)} failed`),
    h("a.btn", { href: address("runs", { sweep: sweep.id }) }, "Show its trials")));
}

function reveal(report, link, body, number) {
  body.reveal(report.points.findIndex((p) => p.point_number === number));
  link.set(number);
}

function cards(report, curves, link, body, state) {
  const scroller = body.scroller;
  return [
    answerCard(report, link, (number) => reveal(report, link, body, number)),
    pictureCard(report, link, state),
    costCard(report, link, state),
    report.effects.length > 0 && h("section.card.s-effects", h("header", h("h2", "What each parameter does"), h("span.note", "dots: points · mean ± standard error of a value's points")),
      h(".body.effects", report.effects.filter((item) => item.values.length).map((item) => h("figure", h("figcaption", h("b", longName(item.path)),
        item.share_of_variance !== null && [h("span.sharebar", { title: "share of the variance" }, h("i", { style: { width: `${item.share_of_variance * 100}%` } })), h("span.faint", pct(item.share_of_variance, 0))]), effect(report, item, link))))),
    h("section.card.s-table", h("header", h("h2", "Points"), h("span.note", `${int(report.points.length)}, best first`)), scroller),
    h("section.card.s-lines", h("header", h("h2", "Over epochs"), h("span.note", `${int(Object.keys(curves).length)} trials`)), h(".body", strands(curves, report, link))),
  ];
}

function answerCard(report, link, onReveal) {
  const { noise, choice } = report;
  const by = (number) => report.points.find((p) => p.point_number === number);
  const podium = (name, p, figure) => p && link.on(h("button.podium", { onclick: () => onReveal(p.point_number) }, h("span.small.faint", name), h("b", figure), h("span.small.muted", describe(p.parameters))), p.point_number);
  return h("section.card.answerline", { "aria-label": "The answer" }, h("p.sentence", report.answer),
    noise && h(".podiums",
      podium(choice ? "chosen" : "best", by(choice?.point_number ?? noise.best_point), pct(by(choice?.point_number ?? noise.best_point).mean_val_accuracy)),
      podium("smallest within noise", by(noise.smallest_point), `${int(by(noise.smallest_point).num_parameters)} parameters`),
      podium("quickest within noise", by(noise.quickest_point), `${int(by(noise.quickest_point).mean_epochs_to_plateau)} epochs`)));
}

function pictureCard(report, link, state) {
  const canHeat = canBeHeat(report);
  const paths = pathsOf(report);
  const stage = h(".body.stage");
  const note = h("span.note");
  const numeric = paths.filter((path) => report.points.every((p) => typeof p.parameters[path] === "number"));
  const x = paths.includes(state.get("x")) ? state.get("x") : numeric[0] ?? paths[0];
  const y = paths.includes(state.get("y")) && state.get("y") !== x ? state.get("y") : paths.find((path) => path === "model.hidden_sizes" && path !== x) ?? paths.find((path) => path !== x);
  const names = canHeat ? { heat: "Heat map", parallel: "Parallel" } : { parallel: "Parallel" };
  const buttons = Object.entries(names).map(([key, text]) => h("button", { value: key, onclick: () => choose(key) }, text));
  function choose(name) {
    setState({ view: name === Object.keys(names)[0] ? null : name });
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.value === name));
    replace(note, name === "heat" ? [`columns: ${longName(x)}, rows: ${longName(y)} · `, h("i.ring"), " within noise of the best"] : "a line for each point; drag along an axis to keep a range");
    replace(stage, name === "heat" ? heatMap(report, link, { x, y }) : parallel(report, link));
  }
  choose(state.get("view") in names ? state.get("view") : Object.keys(names)[0]);
  return h("section.card.s-heat", h("header", h("h2", "Val accuracy, %"), note, h("span.end", h(".seg", { role: "group", "aria-label": "Picture" }, buttons))), stage);
}

function costCard(report, link, state) {
  const body = h(".body");
  const names = { epochs: "Epochs", parameters: "Size" };
  const buttons = Object.entries(names).map(([key, text]) => h("button", { value: key, onclick: () => choose(key) }, text));
  function choose(name) {
    setState({ against: name === "epochs" ? null : name });
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.value === name));
    replace(body, scatter(report, link, name));
  }
  choose(state.get("against") in names ? state.get("against") : "epochs");
  return h("section.card.s-cost", h("header", h("h2", "Accuracy against cost"), h("span.note.wide", "size of a dot: parameters"), h("span.end", h(".seg", { role: "group", "aria-label": "Against" }, buttons))), body);
}

/** The table of all points; only rows in sight are in the document. */
function pointsBody(report, link) {
  const scroller = h(".scroller", { tabindex: 0, role: "region", "aria-label": "All points" });
  const { noise } = report;
  const chip = (path, v) => h("span.chip", path === "model.hidden_sizes" || path === "model.activation" ? "" : `${LABELS[path] ?? longName(path)} `, h("b", value(path, v)));
  const body = virtualBody(scroller, () => 37, (i) => {
    const p = report.points[i];
    return h("tr", { class: p.point_number === link.point ? "lit" : "", onpointerenter: () => link.set(p.point_number), onpointerleave: () => link.set(null) },
      h("td.num.faint", p.rank === null ? "–" : String(p.rank)),
      h("td", h(".chips", Object.entries(p.parameters).map(([path, v]) => chip(path, v)))),
      h("td.num", h("b.acc", pct(p.mean_val_accuracy, 1))), h("td.num.muted.wide", int(p.num_parameters)), h("td.num.muted.wide", int(p.mean_epochs_to_plateau)),
      h("td", h(".chips", p.point_number === noise?.best_point && h("span.chip.accent", "★ best"), p.is_within_noise && p.point_number !== noise?.best_point && h("span.chip.good", "within noise"),
        p.point_number === noise?.smallest_point && h("span.chip.line", "smallest"), p.point_number === noise?.quickest_point && h("span.chip.line", "quickest"))));
  });
  link.addEventListener("change", () => {
    for (const row of body.rows) row.classList.toggle("lit", row.ariaRowIndex !== null && report.points[row.ariaRowIndex - 2]?.point_number === link.point);
  });
  const heads = [["#", "num"], ["Point", ""], ["Val accuracy", "num"], ["Parameters", "num wide"], ["Plateau", "num wide"], [h("span.sr", "what it is"), ""]];
  scroller.append(h("table.table.points", { "aria-rowcount": report.points.length + 1 }, h("thead", h("tr", heads.map(([name, cls]) => h("th", { scope: "col", class: cls }, name)))), body));
  body.scroller = scroller;
  return body;
}
