// A sweep: the answer in a sentence, then the pictures that it rests on, all linked, then every point in a table.
import { act, askFirst } from "../acts.js";
import { link as address } from "../address.js";
import * as api from "../api.js";
import { download, h, replace } from "../dom.js";
import { int, pct, seconds } from "../format.js";
import { icon, stateIcon } from "../icons.js";
import { guard } from "../keys.js";
import { attempt } from "../run/actions.js";
import { store } from "../store.js";
import { answerCard, costCard, pictureCard, pointsBody } from "../sweep/cards.js";
import { Link, longName } from "../sweep/link.js";
import { effect } from "../sweep/scatter.js";
import { strands } from "../sweep/strands.js";

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
    replace(
      root,
      head(sweep, () => refresh().catch(() => {})),
      report.points.some((p) => p.mean_val_accuracy != null)
        ? cards(report, curves, link, body, state)
        : waiting(sweep, report),
    );
    body.setCount(report.points.length);
    const point = Number(state.get("point"));
    if (state.has("point")) reveal(report, link, body, point);
  }
  async function refresh() {
    timer = null;
    const before = sweep.status;
    sweep = await api.sweep(id);
    if (FINAL.has(sweep.status) || before === "queued") return draw();
    return root.querySelector(".head")?.replaceWith(head(sweep, () => refresh().catch(() => {})));
  }
  const onEvent = ({ detail }) => {
    if (detail.sweep_id === id && detail.type !== "metric")
      timer ??= setTimeout(() => refresh().catch(() => {}), REFRESH_MS);
  };
  store.addEventListener("event", onEvent);
  await draw();
  return {
    title: sweep.name || "Sweep",
    root,
    leave() {
      clearTimeout(timer);
      body?.leave();
      store.removeEventListener("event", onEvent);
    },
  };
}

function head(sweep, onChange) {
  const { progress } = sweep;
  const ended = progress.succeeded + progress.failed + progress.cancelled;
  const time = sweep.finished_at
    ? ` in ${seconds((new Date(sweep.finished_at) - new Date(sweep.created_at)) / 1000)}`
    : "";
  return h(
    ".head",
    h(
      "h1",
      h("a.crumb", { href: "#/sweeps" }, "Sweeps"),
      h("span.crumb", " / "),
      h("span", { dir: "auto" }, sweep.name || "unnamed sweep"),
    ),
    h(
      "span.status",
      { class: sweep.status },
      stateIcon(sweep.status),
      FINAL.has(sweep.status)
        ? `${int(progress.trials)} trials${time}`
        : `${int(ended)} of ${int(progress.trials)} trials ended`,
    ),
    sweep.final_run_id && h("a.chip.line", { href: address(`runs/${sweep.final_run_id}`) }, "final run"),
    progress.failed > 0 && h("span.chip.bad", `${int(progress.failed)} failed`),
    h(
      ".end",
      h("a.btn", { href: address("sweeps", { from: sweep.id }) }, icon("play"), "Sweep again with …"),
      h("a.btn.wide", { href: address("runs", { sweep: sweep.id, sort: "-val_accuracy" }) }, icon("runs"), "Trials"),
      act(h("button.btn.wide", icon("down"), "CSV"), () =>
        attempt(async () => download(await api.reportFile(sweep.id), `${sweep.id}-report.csv`)),
      ),
      FINAL.has(sweep.status) &&
        guard(
          askFirst(
            h("button.btn.wide", icon("trash"), "Delete"),
            `Delete with ${int(progress.trials)} trials?`,
            async () => {
              if (await attempt(() => api.removeSweep(sweep.id), `${sweep.name || "The sweep"} is deleted`))
                location.hash = "#/sweeps";
            },
          ),
        ),
      !FINAL.has(sweep.status) &&
        guard(
          act(
            h("button.btn", "Cancel"),
            async () =>
              (await attempt(() => api.cancelSweep(sweep.id), "It is cancelled at the next epoch.")) && onChange(),
          ),
        ),
    ),
  );
}

function waiting(sweep, report) {
  return h(
    "section.card.full",
    h(
      ".empty",
      h("strong", report.answer),
      h(
        "span",
        `${int(sweep.progress.queued)} queued, ${int(sweep.progress.running)} running, ${int(sweep.progress.failed)} failed`,
      ),
      h("a.btn", { href: address("runs", { sweep: sweep.id }) }, "Show its trials"),
    ),
  );
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
    report.effects.length > 0 &&
      h(
        "section.card.s-effects",
        h(
          "header",
          h("h2", "What each parameter does"),
          h("span.note", "dots: points · mean ± standard error of a value's points"),
        ),
        h(
          ".body.effects",
          report.effects
            .filter((item) => item.values.length)
            .map((item) =>
              h(
                "figure",
                h(
                  "figcaption",
                  h("b", longName(item.path)),
                  item.share_of_variance !== null && [
                    h(
                      "span.sharebar",
                      { title: "share of the variance" },
                      h("i", { style: { width: `${item.share_of_variance * 100}%` } }),
                    ),
                    h("span.faint", pct(item.share_of_variance, 0)),
                  ],
                ),
                effect(report, item, link),
              ),
            ),
        ),
      ),
    h(
      "section.card.s-table",
      h("header", h("h2", "Points"), h("span.note", `${int(report.points.length)}, best first`)),
      scroller,
    ),
    h(
      "section.card.s-lines",
      h("header", h("h2", "Over epochs"), h("span.note", `${int(Object.keys(curves).length)} trials`)),
      h(".body", strands(curves, report, link)),
    ),
  ];
}
