// Turn a knob, train, watch: curves with the last run behind them, first-layer weights, what is still got wrong.
import * as api from "../api.js";
import { announce, h, replace, toast } from "../dom.js";
import { kept } from "../draw/digits.js";
import { int, pct, share } from "../format.js";
import { Problem, SubmissionKeys } from "../http.js";
import { mistakeTile } from "../run/confusion.js";
import { readSplits } from "../splits.js";
import { store } from "../store.js";
import { watch } from "../stream.js";
import { digitTile, limitOf, rowsOf, weightTile } from "../tiles.js";
import { against } from "../train/against.js";
import { readChanges, writeChanges } from "../train/document.js";
import { makeForm } from "../train/form.js";
import { makePlayer } from "../train/player.js";
import { mistakesOf, NUM_SNAPSHOTS, probabilities, snapshotAt } from "../train/snapshots.js";

export const title = "Train";
const POINTS = 400;
const REFRESH_MS = 1000;
const NUM_MISTAKES = 16;
const MAX_TILES = 96;
const FINAL = new Set(["succeeded", "failed", "cancelled"]);

const orNull = (promise) =>
  promise.catch((error) => {
    if (error instanceof Problem) return null;
    throw error;
  });

export async function show({ state, isShown, setState }) {
  const [presets, fromRun, newest] = await Promise.all([
    api.presets(),
    state.get("from") ? orNull(api.run(state.get("from"))) : null,
    state.get("run") ? null : api.runs({ status: "succeeded", model_kind: "mlp", sweep_id: "none", limit: 1 }),
  ]);
  const first = state.get("run") ? await orNull(api.run(state.get("run"))) : newest.data[0];
  const behind = state.get("ghost") ? await orNull(api.run(state.get("ghost"))) : null;
  const names = new Set(presets.data.filter(isOfNetwork).map((each) => each.name));
  const startRun = fromRun?.model_kind === "mlp" ? fromRun : null;
  const start = startRun
    ? { from: startRun.id }
    : { preset: names.has(state.get("preset")) ? state.get("preset") : "dropout-tanh" };
  const changes = readChanges(state);
  let run = null;
  let ghost = null;
  let timer = null;
  let isDeleted = false; // whether the run was deleted since it is shown
  const submissions = new SubmissionKeys();
  let isPlayedOnce = true; // whether the run was seen while it trained, or played back

  const tiles = h(".tiles.twelve");
  const tileNote = h("span.note");
  const wrong = h(".tiles.wrong");
  const wrongNote = h("span.note");
  const versus = h(".body");
  const drawn = h(".body");
  const player = makePlayer((epoch, isAtEnd) => {
    setState({ at: isAtEnd ? null : epoch });
    showSnapshot(epoch, isAtEnd);
  });
  let snapshots = null; // of the run, if it has some
  let images = new Map(); // pixels of val by index, read once they are needed
  let shownSnapshot = null;
  let end = null; // draws what stands at the end of the training
  const form = makeForm(start, changes, presets.data, startRun, missing(state, { names, fromRun, first, behind }), {
    change: (from, changed) => {
      const knobs = writeChanges(changed);
      const gone = [...new URLSearchParams(location.hash.split("?")[1] ?? "").keys()].filter(
        (key) => key.includes(".") || ["seed", "scaling"].includes(key),
      );
      setState({
        ...Object.fromEntries(gone.map((key) => [key, null])),
        preset: from.preset ?? null,
        from: from.from ?? null,
        ...knobs,
      });
    },
    train,
  });

  async function train(document) {
    form.setBusy(true);
    try {
      const body = withSnapshots(document);
      const submitted = await api.submit(body, submissions.of(body));
      submissions.done(body);
      if (!isShown()) return;
      if (run?.best && !isDeleted) setGhost(run);
      isPlayedOnce = false;
      await showRun(submitted);
    } catch (error) {
      if (error instanceof Problem && error.errors.length) form.showErrors(error.errors);
      else toast(error.message);
    } finally {
      form.setBusy(false);
    }
  }
  function setGhost(next) {
    ghost = next;
    setState({ ghost: next?.id });
    if (!next) return player.showGhost(null, []);
    return api.metrics(next.id, POINTS).then(
      ({ data }) => next === ghost && player.showGhost(next, data),
      () => {},
    );
  }
  /** Shows a run: what there is of it, and, once it has ended, everything else. */
  async function showRun(next) {
    run = next;
    isDeleted = false;
    [snapshots, shownSnapshot, end] = [null, null, null];
    setState({ run: run.id });
    watch(FINAL.has(run.status) ? [] : [run.id]);
    await refresh();
  }
  async function refresh() {
    timer = null;
    const id = run.id;
    const before = run.status;
    const [next, metrics] = await Promise.all([api.run(id), api.metrics(id, POINTS)]).catch((error) => {
      if (error.status === 404 && id === run.id) sayDeleted();
      throw error;
    });
    if (id !== run.id || !isShown()) return;
    run = next;
    player.show(run, metrics.data);
    if (run.status === "running" && metrics.data.length && before === "running") isPlayedOnce = true;
    if (!FINAL.has(run.status)) return;
    watch([]);
    if (!isPlayedOnce) {
      player.play();
      announce(run.best ? `Trained: val accuracy ${pct(run.best.val_accuracy)}` : run.status);
    }
    isPlayedOnce = true;
    await showEnd(id);
  }
  async function showEnd(id) {
    const hasModel = run.status === "succeeded";
    const [weights, mistakes, comparison] = await Promise.all([
      hasModel && run.model_kind === "mlp" ? orNull(api.weights(id)) : null,
      hasModel ? orNull(api.mistakes(id, { limit: NUM_MISTAKES })) : null,
      hasModel && ghost ? orNull(api.mistakes(id, { against: ghost.id })) : null,
      orNull(readSplits([run, ghost ?? run].map((each) => each.config))),
    ]);
    if (id !== run.id || !isShown()) return;
    if (run.config.training?.snapshots) await loadSnapshots(id);
    if (id !== run.id || !isShown()) return;
    end = () => {
      const limit = weights ? limitOf(weights.weights) : 1;
      replace(
        tiles,
        weights?.weights.slice(0, MAX_TILES).map((unit, i) => weightTile(unit, limit, `Unit ${i + 1}`)) ?? [],
      );
      replace(tileNote, weights ? `${int(weights.weights.length)} units at epoch ${int(weights.epoch)}` : "");
      replace(wrong, mistakes?.data.map(mistakeTile) ?? []);
      replace(wrongNote, mistakes ? `${mistakes.total} on val` : "");
    };
    end();
    replace(versus, against(run, ghost, comparison));
    await showDrawn(id, hasModel);
  }
  async function loadSnapshots(id) {
    const [page, samples] = await Promise.all([
      orNull(api.snapshots(id)),
      images.size ? null : orNull(api.samples("digits", { split: "val", limit: 2000 })),
    ]);
    if (samples) images = new Map(samples.data.map((each) => [each.index, each.pixels]));
    if (page?.data.length && id === run.id) snapshots = page;
  }
  /** Shows the weights and the mistakes of an epoch, and what the network of that epoch answers to the drawn digit. */
  function showSnapshot(epoch, isAtEnd) {
    if (!snapshots || !end) return;
    const snapshot = isAtEnd ? null : snapshotAt(snapshots, epoch);
    if (snapshot === shownSnapshot) return;
    shownSnapshot = snapshot;
    if (!snapshot) {
      end();
      showDrawn(run.id, true);
      return;
    }
    const limit = limitOf(snapshots.data.at(-1).layers[0].weights);
    const units = snapshot.layers[0].weights.slice(0, MAX_TILES);
    if (tiles.children.length === units.length) units.forEach((unit, i) => tiles.children[i].show(unit, limit));
    replace(tileNote, `${int(snapshot.layers[0].weights.length)} units at epoch ${int(snapshot.epoch)}`);
    const found = mistakesOf(snapshots, snapshot);
    replace(wrongNote, `${found.length} of ${snapshots.images.length} at epoch ${int(snapshot.epoch)}`);
    replace(
      wrong,
      found
        .filter((each) => images.has(each.index))
        .slice(0, NUM_MISTAKES)
        .map((each) => mistakeTile({ ...each, pixels: images.get(each.index) })),
    );
    const [digit] = kept();
    if (!digit) return;
    const p = probabilities(run.config, snapshot, digit.pixels);
    const best = p.indexOf(Math.max(...p));
    drawnIs(digit.pixels, best, p[best], `the digit that you drew, asked at epoch ${int(snapshot.epoch)}`);
  }
  const drawnIs = (pixels, digit, confidence, text) =>
    replace(
      drawn,
      h(
        ".drawn",
        digitTile(pixels, "the digit that you drew"),
        h("div", h("strong", String(digit)), h("span.small.muted", share(confidence))),
        h("span.small.faint", text),
      ),
    );
  /** Asks this run for the digit that was drawn last. */
  async function showDrawn(id, hasModel) {
    const [digit] = kept();
    if (!digit || !hasModel)
      return replace(
        drawn,
        h("p.small.faint.yours-none", h("a", { href: "#/draw" }, "Draw a digit"), ": each run is asked for it."),
      );
    const answer = await orNull(api.predict({ instances: [rowsOf(digit.pixels)] }, id));
    const [prediction] = answer?.predictions ?? [];
    return (
      prediction &&
      drawnIs(digit.pixels, prediction.digit, prediction.confidence, "the digit that you drew, asked of this run")
    );
  }
  function sayDeleted() {
    clearTimeout(timer);
    isDeleted = true;
    watch([]);
    player.showDeleted();
  }
  /** Takes it that a run was deleted: the one that is shown stays in sight, the one behind it goes. */
  function forget(id) {
    if (id === run?.id) sayDeleted();
    if (id === startRun?.id) form.askAgain();
    if (id !== ghost?.id) return;
    setGhost(null);
    if (end) replace(versus, against(run, null, null));
  }
  const onEvent = ({ detail }) => {
    if (detail.type === "deleted") forget(detail.run_id);
    else if (detail.run_id === run?.id && !isDeleted)
      timer ??= setTimeout(() => refresh().catch(() => {}), detail.type === "metric" ? REFRESH_MS : 30);
  };
  /** Goes on after the service was away. */
  const goOn = () => {
    form.askAgain();
    if (run && !isDeleted) refresh().catch(() => {});
  };
  const keys = (event) => {
    if (event.key === "Enter" && !event.target.closest?.("button, a, input, select, textarea, summary, dialog"))
      form.train();
  };
  store.addEventListener("event", onEvent);
  store.addEventListener("back", goOn);
  addEventListener("keydown", keys);

  const root = h(
    ".page.train",
    form.root,
    h(
      ".stack",
      player.root,
      h(
        "section.card.weights",
        h(
          "header",
          h("h2", "First layer"),
          tileNote,
          h("span.end.small.faint", h("span.key-minus", "ink forbids"), " · ", h("span.key-plus", "ink excites")),
        ),
        h(".body", tiles),
      ),
    ),
    h(
      ".stack",
      h("section.card.against", h("header", h("h2", "Against the last run")), versus),
      h("section.card.yours", h("header", h("h2", "Your digit")), drawn),
      h("section.card.mistakes", h("header", h("h2", "Mistakes"), wrongNote), h(".body", wrong)),
    ),
  );
  return {
    root,
    async entered() {
      form.reset();
      if (behind) setGhost(behind);
      if (!first) return replace(versus, h("p.small.faint", "Press Train: it takes a second or two."));
      await showRun(first).catch(() => {});
      if (isShown() && Number(state.get("at"))) player.go(Number(state.get("at")));
      return undefined;
    },
    leave() {
      clearTimeout(timer);
      form.leave();
      player.stop();
      if (run) watch([]); // a view that was never shown watches nothing, and the one that is may
      store.removeEventListener("event", onEvent);
      store.removeEventListener("back", goOn);
      removeEventListener("keydown", keys);
    },
  };
}

const isOfNetwork = ({ kind, config }) => kind === "run" && config.model.kind === "mlp";
const KINDS = { random_forest: "a forest", ensemble: "an ensemble" };

/** Says what an address asks for that Train cannot show; null: nothing. */
function missing(state, { names, fromRun, first, behind }) {
  const texts = [
    state.get("from") && !fromRun && "The run that this address starts from is gone.",
    fromRun &&
      fromRun.model_kind !== "mlp" &&
      `${fromRun.name || "The run"} is ${KINDS[fromRun.model_kind]}: the knobs are those of networks.`,
    state.get("preset") && !names.has(state.get("preset")) && `No preset of a network is named ${state.get("preset")}.`,
    state.get("run") && !first && "The run that this address shows is gone.",
    state.get("ghost") && !behind && "The run that this address lays behind it is gone.",
  ];
  return texts.filter(Boolean).join(" ") || null;
}

/** Has the run keep snapshots for playback, unless the submission says how many itself. */
function withSnapshots(document) {
  return { ...document, training: { snapshots: NUM_SNAPSHOTS, ...document.training } };
}
