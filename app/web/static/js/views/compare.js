// Runs side by side: curves in one picture, only the settings that differ, and which run makes which mistake.
import { act } from "../acts.js";
import { link, read, setState } from "../address.js";
import * as api from "../api.js";
import { copy, h, replace } from "../dom.js";
import { flatten, int, LABELS, pct, short, shorten, value } from "../format.js";
import { Problem } from "../http.js";
import { icon } from "../icons.js";
import { Cursor, lineChart } from "../linechart.js";
import { duel } from "../models/duel.js";
import { columns, ERRORS, percent, rangeChip } from "../run/curves.js";
import { numVal, readSplits, standardError } from "../splits.js";
import { clampRange, readRange, writeRange } from "../zoom.js";

export const title = "Compare";
const COLOURS = ["c1", "c2", "c3", "c6", "c5", "c4"];
const MAX_RUNS = 12;
const POINTS = 400;
const FIELDS = ["val_accuracy", "val_loss", "train_eval_accuracy", "train_eval_loss"];

export async function show({ state }) {
  const wanted = [...new Set(state.getAll("run"))];
  if (wanted.length < 2 || wanted.length > MAX_RUNS) return { root: refusal(wanted.length) };
  const [found, series] = await Promise.all([api.runsById(wanted), api.series(wanted, POINTS, FIELDS)]);
  const runs = wanted
    .map((id) => found.find((run) => run.id === id))
    .filter(Boolean)
    .map((run, i) => ({
      run,
      name: run.name || "unnamed run",
      metrics: series[run.id] ?? empty(),
      cls: COLOURS[i % COLOURS.length],
    }));
  await readSplits(runs.map(({ run }) => run.config)).catch(() => {});
  const gone = wanted.length - runs.length;
  if (runs.length < 2) return { root: refusal(runs.length, gone) };
  const pair = (state.get("pair") ?? "").split(",").filter((id) => runs.some(({ run }) => run.id === id));
  const pictures = curves(runs, (range) => zoomTo(range).catch(() => {}));
  pictures.update(null);
  /** Shows a range of epochs, which the service thins out anew for each run; null: all. */
  async function zoomTo(range) {
    const zoom = clampRange(range, Math.max(...runs.map(({ run }) => run.progress.epoch)));
    setState({ epochs: writeRange(zoom) });
    const found = await Promise.all(
      runs.map(({ run }) =>
        zoom ? api.metrics(run.id, POINTS, zoom).then(({ data }) => columns(data), empty) : (series[run.id] ?? empty()),
      ),
    );
    if (writeRange(zoom) !== read().state.get("epochs")) return; // another range is wanted meanwhile
    runs.forEach((each, i) => (each.metrics = found[i]));
    pictures.update(zoom);
  }
  const stage = h(".body");
  const pairNote = h("span.note");
  const leaveOut = (id) =>
    (location.hash = link("compare", { run: runs.map(({ run }) => run.id).filter((each) => each !== id) }));
  async function showPair([a, b]) {
    const [one, other] = [a, b].map((id) => runs.find(({ run }) => run.id === id));
    setState({ pair: `${a},${b}` });
    replace(pairNote, `${other.name}, against ${one.name} `);
    const answer = await api.mistakes(b, { against: a }).catch((error) => error);
    if (answer instanceof Error)
      return replace(stage, h("p.small", answer instanceof Problem ? answer.message : "The service does not answer."));
    return replace(stage, duel(answer, ["mended", "new", "of both"]));
  }
  let shown = pair.length === 2 ? pair : [runs[0].run.id, runs[1].run.id];
  const choose = (i) =>
    h(
      "select.input.select",
      {
        "aria-label": i ? "Run" : "Against",
        onchange: (event) => {
          shown = shown.with(i, event.target.value);
          showPair(shown);
        },
      },
      runs.map(({ run, name }) => h("option", { value: run.id, selected: run.id === shown[i] }, name)),
    );
  const root = h(
    ".page.compare",
    h(
      ".head",
      h("h1", h("a.crumb", { href: "#/runs" }, "Runs"), h("span.crumb", " / "), "Compare"),
      h(
        ".chips",
        runs.map(({ run, name, cls }) =>
          h(
            "span.chip.line",
            keyOf(cls),
            h("a", { href: link(`runs/${run.id}`), dir: "auto" }, h("b", name)),
            runs.length > 2 && act(h("button", { "aria-label": `Leave ${name} out` }, "×"), () => leaveOut(run.id)),
          ),
        ),
        h("a.chip", { href: link("runs", { select: runs.map(({ run }) => run.id) }) }, icon("plus"), "add"),
        gone > 0 && h("span.chip.warn", `${gone} deleted`),
      ),
      h(".end", h("button.btn", { onclick: () => copy(location.href, "Link") }, icon("copy"), "Link")),
    ),
    pictures.cards,
    table(runs),
    h(
      "section.card.twothirds",
      h(
        "header",
        h("h2", "Mistakes"),
        pairNote,
        h("span.end", h(".selectwrap", choose(0)), h(".selectwrap", choose(1))),
      ),
      stage,
    ),
  );
  const entered = () => {
    showPair(shown).catch(() => {});
    const zoom = readRange(state.get("epochs"));
    if (zoom) zoomTo(zoom).catch(() => {});
  };
  return { root, entered };
}

const empty = () => ({ epoch: [], ...Object.fromEntries(FIELDS.map((field) => [field, []])) });
const keyOf = (cls) => h("i.key", { style: { background: `var(--${cls})` } });

function refusal(n, gone = 0) {
  const text =
    n > MAX_RUNS
      ? `At most ${MAX_RUNS} runs can be compared; these are ${n}.`
      : gone
        ? "The other runs have been deleted."
        : "Choose two runs or more.";
  return h(".page", h(".card", h(".empty", h("strong", text), h("a.btn.primary", { href: "#/runs" }, "Choose runs"))));
}

function curves(runs, onzoom) {
  const cursor = new Cursor();
  const labelled = runs.length <= 6;
  const series = (val, train) => [
    ...runs.map(({ name, metrics, cls }) => ({
      name: `${name}, train`,
      cls,
      dashed: true,
      thin: true,
      opacity: 0.7,
      silent: true,
      xs: metrics.epoch,
      ys: metrics[train] ?? [],
    })),
    ...runs.map(({ name, metrics, cls }) => ({
      name,
      label: labelled ? shorten(name, 13) : null,
      cls,
      xs: metrics.epoch,
      ys: metrics[val] ?? [],
    })),
  ];
  const marks = (field) =>
    runs.filter(({ run }) => run.best).map(({ run, cls }) => ({ x: run.best.epoch, y: run.best[field], cls }));
  const shared = { cursor, onzoom, height: 250, right: 104, series: [] };
  const chart = (name, y) => lineChart({ ...shared, y, summary: `Val ${name} of the runs over epochs` });
  const accuracy = chart("accuracy", { ...ERRORS, format: percent, label: "accuracy" });
  const loss = chart("loss", { log: true, domain: "fit", format: short, label: "loss" });
  const note = h("span.note");
  const card = (name, body, text) =>
    h("section.card.half", h("header", h("h2", name), h("span.note", "val; train dashed"), text), h(".body", body));
  return {
    cards: [card("Accuracy", accuracy, note), card("Loss", loss)],
    update(zoom) {
      const xDomain = zoom ?? undefined;
      accuracy.update({ series: series("val_accuracy", "train_eval_accuracy"), marks: marks("val_accuracy"), xDomain });
      loss.update({ series: series("val_loss", "train_eval_loss"), marks: marks("val_loss"), xDomain });
      replace(note, zoom && rangeChip(zoom, onzoom));
    },
  };
}

function table(runs) {
  const flat = runs.map(({ run }) => flatten(run.config));
  const paths = [...new Set([...Object.keys(LABELS), ...flat.flatMap(Object.keys)])].filter(
    (path) => new Set(flat.map((each) => JSON.stringify(each[path]))).size > 1,
  );
  const line = (name, values, format, isLeast) => {
    const known = values.filter((v) => v != null);
    const best = known.length ? (isLeast ? Math.min : Math.max)(...known) : null;
    return h(
      "tr",
      h("td.muted", name),
      values.map((v) => h("td.num", { class: v != null && v === best ? "bestcell" : "" }, v == null ? "–" : format(v))),
    );
  };
  return h(
    "section.card.third",
    h("header", h("h2", "What differs")),
    h(
      ".body",
      h(
        ".plainwrap",
        { tabindex: 0, role: "region", "aria-label": "What differs" },
        h(
          "table.table.plain",
          h(
            "thead",
            h(
              "tr",
              h("th", h("span.sr", "field")),
              runs.map(({ name, cls }) => h("th.num", { scope: "col", title: name }, keyOf(cls), h("span.cut", name))),
            ),
          ),
          h(
            "tbody",
            paths.map((path) =>
              h(
                "tr",
                h("td.muted", LABELS[path] ?? path.split(".").at(-1)),
                flat.map((each) => h("td.num", h("b", path in each ? value(path, each[path]) : "–"))),
              ),
            ),
            line(
              "val accuracy",
              runs.map(({ run }) => run.best?.val_accuracy),
              (v) => pct(v, 2),
            ),
            line(
              "shifted val",
              runs.map(({ run }) => run.shifted_accuracy),
              (v) => pct(v, 1),
            ),
            line(
              "val loss",
              runs.map(({ run }) => run.best?.val_loss),
              short,
              true,
            ),
            line(
              "best epoch",
              runs.map(({ run }) => run.best?.epoch),
              int,
              true,
            ),
            line(
              "train, at the end",
              runs.map(({ metrics }) => metrics.train_eval_accuracy.at(-1)),
              (v) => pct(v, 1),
            ),
          ),
        ),
      ),
      h("p.small.faint.gap", noise(runs)),
    ),
  );
}

/** By the rule of the sweep reports: no further apart than the standard error of the difference. */
function noise(all) {
  const [best, ...others] = all
    .filter(({ run }) => run.best && numVal(run.config))
    .sort((a, b) => b.run.best.val_accuracy - a.run.best.val_accuracy);
  if (!others.length) return "";
  const errorOf = ({ run }) => standardError(run.best.val_accuracy, numVal(run.config));
  const within = others.filter(
    (each) => best.run.best.val_accuracy - each.run.best.val_accuracy <= Math.hypot(errorOf(best), errorOf(each)),
  );
  if (!within.length) return `${best.name} is better by more than noise.`;
  return `${within.map(({ name }) => name).join(" and ")} ${within.length > 1 ? "are" : "is"} within noise of ${best.name}${within.length < others.length ? "; the others are not" : ""}.`;
}
