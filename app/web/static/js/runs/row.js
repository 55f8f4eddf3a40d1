// One row of Runs: a run, or a sweep with all its trials.
import { link } from "../address.js";
import { append, h } from "../dom.js";
import { ago, difference, int, layers, pct, seconds } from "../format.js";
import { now } from "../http.js";
import { icon, stateIcon } from "../icons.js";
import { sparkline } from "../linechart.js";

export function makeRow(run, { defaults, series, isChampion, isChosen, onChoose }) {
  const name = run.name || (run.is_sweep ? "unnamed sweep" : "unnamed run");
  const box = h("input", {
    type: "checkbox",
    "aria-label": `Choose ${name}`,
    checked: isChosen,
    disabled: run.is_sweep || run.is_deleted,
    dataset: { focus: run.id },
    onchange: () => {
      row.setAttribute("aria-selected", String(box.checked));
      onChoose(box.checked);
    },
  });
  const accuracy = run.best?.val_accuracy;
  const row = h(
    "tr",
    {
      "aria-selected": String(isChosen),
      class: `${run.is_sweep ? "group" : ""} ${run.is_deleted ? "gone" : ""}`,
      dataset: { id: run.id },
    },
    h("td.check", box),
    h(
      "td",
      h(
        ".runname",
        h(
          "span.status",
          { class: run.status, title: run.status },
          run.is_sweep ? icon("sweeps") : stateIcon(run.status),
        ),
        h("a", { href: link(`${run.is_sweep ? "sweeps" : "runs"}/${run.id}`), dir: "auto" }, name),
        isChampion && h("span.chip.accent", "★ champion"),
        run.is_sweep && h("span.chip", h("b", int(run.progress.trials)), " trials"),
        run.is_deleted && h("span.chip.bad", "deleted"),
        h("span.sr", run.status),
      ),
      h(".narrow.small.faint", shape(run), " · ", progress(run).textContent),
    ),
    h("td.wide.differs", append(chips(run, defaults), tags(run))),
    h("td.num", accuracy == null ? h("span.faint", "–") : h("b.acc", pct(accuracy, 1))),
    h("td.num.wide.wider.muted", run.shifted_accuracy == null ? "" : pct(run.shifted_accuracy, 1)),
    h(
      "td.wide.wider.sparkcell",
      series?.epoch.length > 1
        ? sparkline(series.epoch, series.val_accuracy, {
            width: 96,
            height: 26,
            errors: true,
            cls: run.status === "running" ? "c1" : "ghost",
            xMax: run.progress.epochs,
          })
        : "",
    ),
    h("td.num.wide.wider.muted", int(run.num_parameters)),
    h("td.progress.wide", progress(run)),
    h("td.num.wide.wider.faint.nowrap", ago(run.created_at, now())),
  );
  return row;
}

/** What a network, a forest or an ensemble is, in a word or two. */
export function shape(run) {
  if (run.is_sweep) return `${int(run.progress.trials)} trials`;
  const { model } = run.config;
  if (run.model_kind === "random_forest") return `forest of ${model.n_estimators}`;
  if (run.model_kind === "ensemble") return `ensemble of ${model.members.length}`;
  return `${layers(model.hidden_sizes)}${model.hidden_sizes.length ? ` ${model.activation}` : ""}`;
}

export function chips(run, defaults) {
  if (run.is_sweep)
    return h(
      ".chips",
      run.paths.map((text) => h("span.chip.line", text)),
    );
  if (run.status === "failed" && run.error)
    return h(".chips", h("span.chip.bad", run.error.code), h("span.faint.small.note", run.error.detail));
  const isNetwork = run.model_kind === "mlp";
  const rest =
    isNetwork && defaults
      ? difference(run.config, defaults).filter(
          (d) => !["scaling", "model.hidden_sizes", "model.activation"].includes(d.path),
        )
      : [];
  return h(
    ".chips",
    h("span.chip", h("b", shape(run))),
    rest.map((d) => h("span.chip", d.label, " ", h("b", d.value))),
  );
}

const tags = (run) => Object.entries(run.tags ?? {}).map(([key, text]) => h("span.chip.line", `${key}:${text}`));

function progress(run) {
  const { epoch, epochs, eta_seconds: left } = run.progress;
  if (run.is_sweep)
    return h(
      "span.muted",
      run.status === "succeeded" ? seconds(run.seconds) : sweepProgress(run.progress),
      run.progress.failed > 0 && h("span.down", ` · ${int(run.progress.failed)} failed`),
    );
  if (run.status === "running") {
    return h(
      ".inprogress",
      h(".track", h("i", { style: { width: `${(epoch / epochs) * 100}%` } })),
      h("span.small.muted", `${int(epoch)} of ${int(epochs)}${left ? ` · ${seconds(left)}` : ""}`),
    );
  }
  if (run.status === "queued")
    return h(
      "span.muted",
      { title: run.hint },
      run.hint ? "waits for a worker" : run.queue_position === 1 ? "next" : `${int(run.queue_position)} in the queue`,
    );
  if (run.status === "paused") return h("span.muted", `paused at ${int(epoch)} of ${int(epochs)}`);
  if (run.status === "failed" || run.status === "cancelled") return h("span.muted", `ended at ${int(epoch)}`);
  return h("span.muted", seconds(run.training_seconds));
}

const sweepProgress = ({ trials, succeeded, failed, cancelled }) =>
  `${int(succeeded + failed + cancelled)} of ${int(trials)} ended`;
