// Curves of a run, live or played back: a short training is over before one can look, so it is played once more.
import { h, onceAFrame, replace } from "../dom.js";
import { int, pct, seconds, short, signed } from "../format.js";
import { icon, stateIcon } from "../icons.js";
import { Cursor, lineChart } from "../linechart.js";
import { columns, ERRORS, percent } from "../run/curves.js";

const PLAY_MS = 3000;

/** @param {(epoch: number, isAtEnd: boolean) => void} onEpoch told which epoch is shown */
export function makePlayer(onEpoch) {
  let run = null;
  let ghost = null;
  let m = columns([]);
  let old = columns([]);
  let epoch = null; // null: the end
  let playing = null;
  let isDeleted = false;
  const cursor = new Cursor();
  const head = h(".live");
  const right = { right: 66 };
  const accuracy = lineChart({
    cursor,
    ...right,
    height: 236,
    series: [],
    y: { ...ERRORS, format: percent, label: "accuracy" },
    hideX: true,
    summary: "Accuracy over epochs",
    onpick: go,
  });
  const loss = lineChart({
    cursor,
    ...right,
    height: 150,
    series: [],
    y: { log: true, domain: "fit", format: short, label: "loss" },
    summary: "Loss over epochs",
    onpick: go,
  });
  const scrub = h("input.scrub", {
    type: "range",
    min: 1,
    max: 1,
    value: 1,
    "aria-label": "Epoch",
    oninput: () => go(Number(scrub.value)),
  });
  const again = h(
    "button.btn.ghost.icon",
    { "aria-label": "Play the training again", onclick: () => (playing ? stop() : play()) },
    icon("play"),
  );

  const last = () => m.epoch.at(-1) ?? 0;
  const draw = onceAFrame(() => {
    if (!run) return;
    const at = epoch ?? last();
    const n = m.epoch.findLastIndex((e) => e <= at) + 1;
    const isAtEnd = at >= last();
    const xs = m.epoch.slice(0, n);
    const line = (names) => [
      {
        name: "last run, val",
        cls: "ghost",
        xs: old.epoch,
        ys: old[names[2]] ?? [],
        label: isAtEnd && old.epoch.length ? "last run" : null,
      },
      { name: "train as seen", cls: "seen", thin: true, xs, ys: (m[names[0]] ?? []).slice(0, n), label: "as seen" },
      { name: "train", cls: "train", dashed: true, xs, ys: (m[names[1]] ?? []).slice(0, n), label: "train" },
      { name: "val", cls: "val", xs, ys: (m[names[2]] ?? []).slice(0, n), label: "val" },
    ];
    const best = bestOf(m, n);
    const shared = {
      sticky: isAtEnd ? null : at,
      xDomain: [0, Math.max(1, run.status === "running" ? run.progress.epochs : last(), old.epoch.at(-1) ?? 0)],
    };
    accuracy.update({
      ...shared,
      series: line(["train_accuracy", "train_eval_accuracy", "val_accuracy"]),
      marks: best < 0 ? [] : [{ x: m.epoch[best], y: m.val_accuracy[best] }],
    });
    loss.update({
      ...shared,
      series: line(["train_loss", "train_eval_loss", "val_loss"]),
      marks: best < 0 ? [] : [{ x: m.epoch[best], y: m.val_loss[best] }],
    });
    Object.assign(scrub, { max: Math.max(1, last()), value: at });
    scrub.style.setProperty("--at", `${last() > 1 ? ((at - 1) / (last() - 1)) * 100 : 100}%`);
    replace(head, ...headOf(run, ghost, m, n, best, isAtEnd, at, isDeleted));
    onEpoch(at, isAtEnd);
  });

  function go(at) {
    stop();
    epoch = at >= last() ? null : at;
    draw();
  }
  function play() {
    stop();
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return go(last());
    const started = performance.now();
    const frame = (time) => {
      const t = Math.min(1, Math.max(0, (time - started) / PLAY_MS));
      epoch = t < 1 ? Math.max(1, Math.round(last() * t)) : null;
      draw();
      playing = t < 1 ? requestAnimationFrame(frame) : null;
    };
    playing = requestAnimationFrame(frame);
    return undefined;
  }
  function stop() {
    if (playing) cancelAnimationFrame(playing);
    playing = null;
  }
  return {
    root: h(
      "section.card.curves",
      { "aria-label": "Curves" },
      head,
      h(
        ".body",
        h("h3", "Accuracy ", h("span.faint", "errors on a logarithmic scale")),
        accuracy,
        h("h3", "Loss"),
        loss,
        h(".scrubber", again, scrub),
      ),
    ),
    show(next, rows) {
      isDeleted &&= next.id === run.id;
      run = next;
      m = columns(rows);
      draw();
    },
    /** Says that the run is gone; what is shown of it stays. */
    showDeleted() {
      isDeleted = true;
      draw();
    },
    /** Shows another run behind; null: none. */
    showGhost(next, rows) {
      ghost = next;
      old = columns(rows);
      draw();
    },
    go,
    play,
    stop,
  };
}

function bestOf(m, n) {
  let best = -1;
  for (let i = 0; i < n; i++) {
    const isBetter =
      best < 0 ||
      m.val_accuracy[i] > m.val_accuracy[best] ||
      (m.val_accuracy[i] === m.val_accuracy[best] && m.val_loss[i] < m.val_loss[best]);
    if (isBetter) best = i;
  }
  return best;
}

function headOf(run, ghost, m, n, best, isAtEnd, at, isDeleted) {
  const isOver = !["running", "queued", "paused"].includes(run.status);
  const text =
    run.status === "queued"
      ? (run.hint ?? "waits for the worker")
      : !isOver
        ? `epoch ${int(run.progress.epoch)} of ${int(run.progress.epochs)}${run.progress.eta_seconds ? ` · ${seconds(run.progress.eta_seconds)} left` : ""}`
        : !isAtEnd
          ? `epoch ${int(at)} of ${int(run.progress.epoch)}`
          : run.status === "succeeded"
            ? `trained in ${seconds(run.training_seconds)}`
            : run.error
              ? `${run.status}: ${run.error.detail}`
              : run.status;
  const look = isOver && !isAtEnd ? "running" : run.status;
  const before = ghost?.best?.val_accuracy;
  const gain = best >= 0 && before != null ? (m.val_accuracy[best] - before) * 100 : null;
  return [
    h(
      ".live-name",
      h(
        "h1",
        { dir: "auto" },
        h("a.plainlink", { href: isDeleted ? null : `#/runs/${run.id}` }, run.name || "unnamed run"),
      ),
      h("span.status", { class: look }, stateIcon(look), text),
      isDeleted && h("span.chip.bad", { role: "status" }, "deleted meanwhile: this cannot be undone"),
    ),
    best >= 0 &&
      h(
        "dl.stats",
        stat(
          "val accuracy, best",
          pct(m.val_accuracy[best], 1),
          gain !== null && h("small", { class: gain >= 0 ? "up" : "down" }, ` ${signed(gain)}`),
          "lead",
        ),
        stat("at epoch", int(m.epoch[best])),
        stat("train, dropout off", pct(m.train_eval_accuracy[n - 1], 1)),
        stat("val loss", short(m.val_loss[n - 1])),
      ),
  ];
}

const stat = (name, text, extra, cls = "") => h("div.stat", { class: cls }, h("dt", name), h("dd", text, extra));
