// One run, inside: curves, gradients, weights, confusion, mistakes, settings, and how to ask for the same by hand.
import { link, setState } from "../address.js";
import * as api from "../api.js";
import { h, onceAFrame, replace } from "../dom.js";
import { ago, bytes, difference, flatten, int, LABELS, pct, seconds, short, value } from "../format.js";
import { now, Problem } from "../http.js";
import { stateIcon } from "../icons.js";
import { runButtons } from "../run/actions.js";
import { makeCode } from "../run/code.js";
import { makeConfusion } from "../run/confusion.js";
import { makeCurves } from "../run/curves.js";
import { store } from "../store.js";
import { watch } from "../stream.js";
import { numVal, plusMinus, readSplits } from "../splits.js";
import { limitOf, weightTile } from "../tiles.js";
import { clampRange, readRange, writeRange } from "../zoom.js";

export const title = "Run";
const POINTS = 400;
const REFRESH_MS = 1000;
const MAX_TILES = 256;

/** What is not there (no checkpoint yet, a forest) is left out; other refusals are not. */
const optional = (promise) =>
  promise.catch((error) => {
    if (error instanceof Problem && [404, 409].includes(error.status)) return null;
    throw error;
  });

export async function show({ state, rest: [id] }) {
  let run = await api.run(id);
  let zoom = readRange(state.get("epochs"));
  const curves = makeCurves(state.get("scale"), (range) => zoomTo(range).catch(() => {}));
  const top = h(".runtop");
  const inside = h(".inside");
  let timer = null;
  let rows = [];
  let hasCurves = false; // whether the cards were made with curves
  let numImages = null; // of val, once that is known
  let atBest = null; // metrics of the best epoch, which a range of epochs may leave out

  const told = h("span.contents");
  const buttons = h(".end");
  const stats = h("div");
  let shownButtons = "";
  replace(top, h(".head", told, buttons), stats);
  const drawTop = onceAFrame(() => {
    const isChampion = store.champion?.model.run_id === id;
    replace(told, head(run, isChampion));
    replace(stats, facts(run, atBest, numImages));
    const wanted = [run.status, isChampion].join();
    if (wanted === shownButtons) return; // one of them may have the focus, or ask once more
    shownButtons = wanted;
    replace(
      buttons,
      runButtons(run, isChampion, () => refresh().catch(() => {})),
    );
  });
  function takeRows(found) {
    rows = found;
    atBest = rows.find((row) => row.epoch === run.best?.epoch) ?? (atBest?.epoch === run.best?.epoch ? atBest : null);
    curves.update(run, rows, zoom);
    drawTop();
  }
  /** Shows a range of epochs, which the service thins out anew; null: all. */
  async function zoomTo(range) {
    const last = rows.length && !zoom ? rows.at(-1).epoch : run.progress.epoch;
    zoom = clampRange(range, last);
    setState({ epochs: writeRange(zoom) });
    const wanted = zoom;
    const { data } = await api.metrics(id, POINTS, zoom);
    if (wanted === zoom) takeRows(data);
  }
  /** Finds out how many images val has; curves do not wait for it. */
  async function countImages(confusion) {
    if (confusion) numImages = confusion.counts.flat().reduce((sum, n) => sum + n, 0);
    else if (run.best && numImages === null) await readSplits([run.config]).catch(() => {});
    numImages ??= numVal(run.config);
    drawTop();
  }
  async function load() {
    const isNetwork = run.model_kind === "mlp";
    const hasModel = run.status === "succeeded";
    const [metrics, summary, weights, confusion, mistakes, defaults] = await Promise.all([
      run.model_kind === "ensemble" ? { data: [] } : api.metrics(id, POINTS, zoom),
      isNetwork ? optional(api.summary(id)) : null,
      isNetwork && run.best ? optional(api.weights(id, { role: state.get("role") ?? "best" })) : null,
      hasModel ? optional(api.confusion(id)) : null,
      hasModel ? optional(api.mistakes(id, { limit: 1000 })) : null,
      optional(api.defaults()).catch(() => null),
    ]);
    countImages(confusion);
    takeRows(metrics.data);
    hasCurves = rows.length > 0 || zoom !== null;
    replace(inside, cards({ run, curves, summary, weights, confusion, mistakes, defaults, state, hasCurves }));
  }
  /** Reads the run and its curves again; the rest once it has ended. */
  async function refresh() {
    timer = null;
    const before = run.status;
    run = await api.run(id);
    if (run.status !== before) return load();
    const wanted = zoom;
    countImages(null);
    const { data } = await api.metrics(id, POINTS, zoom);
    if (data.length && !hasCurves) return load(); // the first epoch is here
    return wanted === zoom ? takeRows(data) : undefined;
  }
  const onEvent = ({ detail }) => {
    if (detail.run_id !== id) return;
    if (detail.type === "deleted")
      replace(
        top,
        h(".head", h("h1", run.name || "unnamed run"), h("span.chip.bad", "deleted meanwhile: this cannot be undone")),
      );
    else timer ??= setTimeout(() => refresh().catch(() => {}), detail.type === "metric" ? REFRESH_MS : 50);
  };
  store.addEventListener("event", onEvent);
  store.addEventListener("champion", drawTop);
  await load();
  if (!["succeeded", "failed", "cancelled"].includes(run.status)) watch([id]);
  return {
    title: run.name || "Run",
    root: h(".page.run", top, inside),
    leave() {
      clearTimeout(timer);
      watch([]);
      store.removeEventListener("event", onEvent);
      store.removeEventListener("champion", drawTop);
    },
  };
}

function head(run, isChampion) {
  return [
    h(
      "h1",
      h("a.crumb", { href: "#/runs" }, "Runs"),
      h("span.crumb", " / "),
      h("span", { dir: "auto" }, run.name || "unnamed run"),
    ),
    h(
      "span.status",
      { class: run.status },
      stateIcon(run.status),
      run.pending_request ? `${run.status}, ${run.pending_request} asked for` : run.status,
    ),
    isChampion && h("span.chip.accent", "★ champion"),
    run.sweep_id && h("a.chip.line", { href: link(`sweeps/${run.sweep_id}`) }, `trial ${run.trial_number} of a sweep`),
    Object.entries(run.tags).map(([key, text]) => h("span.chip.line", `${key} ${text}`)),
    run.error && h("span.chip.bad", `${run.error.code}: ${run.error.detail}`),
    run.hint && h("span.chip.warn", run.hint),
  ];
}

const stat = (name, text, unit, cls = "") =>
  text !== null && h("div.stat", { class: cls }, h("dt", name), h("dd", text, unit && h("small", unit)));

function facts(run, atBest, numImages) {
  const { best, progress } = run;
  return h(
    "dl.stats.facts",
    stat(
      "val accuracy",
      best ? pct(best.val_accuracy, 1) : "–",
      best && plusMinus(best.val_accuracy, numImages),
      "lead",
    ),
    stat(
      "shifted val",
      run.shifted_accuracy == null ? null : pct(run.shifted_accuracy, 1),
      run.shifted_standard_error != null && ` ± ${(run.shifted_standard_error * 100).toFixed(1)}`,
    ),
    stat("best epoch", best ? int(best.epoch) : "–", ` of ${int(progress.epochs)}`),
    run.status === "running" &&
      stat("now", int(progress.epoch), progress.eta_seconds ? ` ${seconds(progress.eta_seconds)} left` : ""),
    stat("val loss", best ? short(best.val_loss) : "–"),
    stat("train, dropout off", atBest?.train_eval_accuracy == null ? null : pct(atBest.train_eval_accuracy, 1)),
    stat("parameters", int(run.num_parameters)),
    stat("trained in", seconds(run.training_seconds), run.stack_size > 1 ? ` stack of ${run.stack_size}` : ""),
    stat("device", run.provenance?.device ?? null),
    stat("finished", run.finished_at ? ago(run.finished_at, now()) : null),
  );
}

function cards({ run, curves, summary, weights, confusion, mistakes, defaults, state, hasCurves }) {
  return [
    hasCurves && curves.accuracy,
    hasCurves && curves.loss,
    !hasCurves &&
      h(
        "section.card.full",
        h(
          ".empty",
          h(
            "strong",
            run.model_kind === "ensemble"
              ? "An ensemble is not trained: it asks its members"
              : "Nothing has been measured yet",
          ),
          run.hint && h("span", run.hint),
          run.model_kind === "ensemble" &&
            h(
              ".chips",
              run.config.model.members.map((id) => h("a.chip.line", { href: link(`runs/${id}`) }, id.slice(0, 13))),
            ),
        ),
      ),
    confusion && mistakes && makeConfusion(run, confusion, mistakes, state.get("cell") ?? ""),
    weights &&
      h(
        "section.card.a-weights",
        h(
          "header",
          h("h2", "First layer"),
          h("span.note", `${weights.weights.length} units, epoch ${int(weights.epoch)}`),
          h("span.end.small.faint", h("span.key-minus", "forbids"), " · ", h("span.key-plus", "excites")),
        ),
        h(".body", unitTiles(weights.weights)),
      ),
    summary &&
      hasCurves &&
      h(
        "section.card.a-grad",
        h(
          "header",
          h("h2", "Layers and their gradients"),
          h("span.note", `norm at each epoch, logarithmic · ${bytes(summary.size_bytes)} of parameters`),
        ),
        h(".body", curves.gradients, layerTable(summary)),
      ),
    settings(run, defaults),
    makeCode(run, state.get("code")),
  ];
}

/** The first layer's units as tiles, on one scale. */
function unitTiles(units) {
  const limit = limitOf(units);
  return h(
    ".tiles.units",
    units.slice(0, MAX_TILES).map((unit, i) => weightTile(unit, limit, `Unit ${i + 1}`)),
    units.length > MAX_TILES && h("p.small.faint.none", `and ${units.length - MAX_TILES} more`),
  );
}

function layerTable({ layers }) {
  const heads = ["layer", "shape", "parameters", "weights", "gradient"].map((name, i) =>
    h("th", { scope: "col", class: i > 1 ? "num" : "" }, name),
  );
  return h(
    ".plainwrap",
    { tabindex: 0, role: "region", "aria-label": "Layers" },
    h(
      "table.table.plain",
      h("thead", h("tr", heads)),
      h(
        "tbody",
        layers
          .filter((each) => each.num_parameters)
          .map((each) =>
            h(
              "tr",
              h("td", each.name),
              h("td.muted", `${each.input_shape} → ${each.output_shape}`),
              h("td.num", int(each.num_parameters)),
              h("td.num.muted", short(each.weight_norm)),
              h("td.num.muted", short(each.gradient_norm)),
            ),
          ),
      ),
    ),
  );
}

function settings(run, defaults) {
  const flat = flatten(run.config);
  const differing = new Set(defaults ? difference(run.config, defaults).map((d) => d.path) : []);
  return h(
    "section.card.a-config",
    h("header", h("h2", "Settings"), h("span.note", defaults ? `${differing.size} unlike the defaults` : "")),
    h(
      ".body",
      h(
        "dl.config",
        Object.keys(LABELS)
          .filter((path) => path in flat && flat[path] !== null)
          .map((path) =>
            h(
              "div",
              { class: differing.has(path) ? "differs-from" : "" },
              h("dt", LABELS[path]),
              h("dd", value(path, flat[path])),
            ),
          ),
      ),
    ),
  );
}
