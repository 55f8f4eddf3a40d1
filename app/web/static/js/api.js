// The calls that the page makes, each in one place. What an answer holds is in docs/api.md and /docs.
import { LABELS } from "./format.js";
import { newId, Problem, query, send } from "./http.js";

const JSON_BODY = { "Content-Type": "application/json" };

const get = async (path, parameters = {}, options = {}) => (await send(path + query(parameters), options)).json();

async function change(method, path, body, headers = {}) {
  const options = { method, headers };
  if (body !== undefined) Object.assign(options, { body: JSON.stringify(body), headers: { ...JSON_BODY, ...headers } });
  const response = await send(path, options);
  return response.status === 204 ? null : response.json();
}

const at = encodeURIComponent;

// --- predictions
/** Asks a model: `{instances}`, `{strokes}`, or a picture's Blob. Null as run: the champion. */
export async function predict(what, runId = null, signal) {
  const isFile = what instanceof Blob;
  const options = {
    method: "POST",
    signal,
    headers: isFile ? { "Content-Type": what.type || "application/octet-stream" } : JSON_BODY,
    body: isFile ? what : JSON.stringify(what),
  };
  return (await send(`predict${query({ run_id: runId })}`, options)).json();
}

// --- models
export const models = (parameters) => get("models", parameters);
export const hasModel = async () => (await models({ limit: 1 })).data.length > 0;

/** The champion, null before there is one. The list is asked first: it has no error for "none yet". */
export const champion = async () => ((await hasModel()) ? get("models/champion").catch(unless(404)) : null);
export const pin = (runId) => change("PUT", "models/champion", { run_id: runId });
export const unpin = () => change("DELETE", "models/champion");
export const rollBack = () => change("POST", "models/champion/rollback");

// --- runs
export const runs = (parameters) => get("runs", parameters);
export const run = (id) => get(`runs/${at(id)}`);
export const plan = (document, signal) =>
  send("runs?dry_run=true", { method: "POST", headers: JSON_BODY, body: JSON.stringify(document), signal }).then((r) =>
    r.json(),
  );
export const submit = (document, idempotencyKey = newId()) =>
  change("POST", "runs", document, { "Idempotency-Key": idempotencyKey });
export const patch = (id, fields) => change("PATCH", `runs/${at(id)}`, fields);
export const remove = (id) => change("DELETE", `runs/${at(id)}`);
export const act = (id, action) => change("POST", `runs/${at(id)}/${action}`); // cancel, pause, resume
/** Metrics by epoch, thinned to about so many; of a range of epochs, [first, last], if one is given. */
export const metrics = (id, points, range = null) =>
  get(`runs/${at(id)}/metrics`, { points, after: range && range[0] - 1, until: range?.[1] });
export const summary = (id) => get(`runs/${at(id)}/summary`);
export const weights = (id, parameters) => get(`runs/${at(id)}/weights`, parameters);
export const snapshots = (id) => get(`runs/${at(id)}/snapshots`);
export const confusion = (id) => get(`runs/${at(id)}/confusion`);
export const mistakes = (id, parameters) => get(`runs/${at(id)}/mistakes`, parameters);
export const modelFile = async (id) => (await send(`runs/${at(id)}/model.onnx`)).blob();

/** How many runs have each status, and the oldest that run or wait: what the bar and Draw tell about. */
export async function activity(limit = 20) {
  const page = await runs({ status: ["running", "queued"], sort: "created_at", counts: true, limit });
  return { runs: page.data.sort((a, b) => b.status.localeCompare(a.status)), counts: page.counts };
}

/**
 * Runs, without the trials of sweeps unless these are asked for; `counts` come with the first page.
 *
 * @param {object} filter {status, q, kind, tag, sweep, sort, trials, limit, after}
 */
export const listRuns = ({ kind, sweep, trials, after, ...filter }) =>
  runs({ ...filter, model_kind: kind, sweep_id: sweep || (trials ? null : "none"), after, counts: !after });

/** A sweep as a row of Runs. */
export function asRow(sweep) {
  const paths = Object.entries(sweep.parameters ?? {}).map(
    ([path, values]) => `${LABELS[path] ?? path} × ${Array.isArray(values) ? values.length : "range"}`,
  );
  return {
    ...sweep,
    is_sweep: true,
    num_parameters: null,
    paths: paths.length ? paths : [`list of ${sweep.num_points}`],
    seconds: (new Date(sweep.finished_at) - new Date(sweep.created_at)) / 1000,
  };
}

/** The configuration of a run that asks for nothing. */
export const defaults = async () => (await get("presets/defaults")).config;

/** Runs by id, those that are gone left out. */
export async function runsById(ids) {
  return ids.length ? (await runs({ id: ids, limit: Math.min(200, ids.length) })).data : [];
}

/** Metrics over epochs of many runs: {id: {epoch, val_accuracy, …}}; by run or of a whole sweep. */
export async function series(ids, points, fields = ["val_accuracy"], sweepId = null) {
  const found = {};
  for (let after = null; ids?.length || sweepId;) {
    const page = await get("charts/series", { run_id: ids, sweep_id: sweepId, field: fields, points, after });
    for (const { run_id: id, epochs, ...columns } of page.data) found[id] = { epoch: epochs, ...columns };
    if (!page.has_more) break;
    after = page.next;
  }
  return found;
}

// --- sweeps, presets, data
export const sweeps = (parameters) => get("sweeps", parameters);
export const sweep = (id, points = false) => get(`sweeps/${at(id)}`, { points });
export const report = (id, trials = true) => get(`sweeps/${at(id)}/report`, { trials });
export const reportFile = async (id) => (await send(`sweeps/${at(id)}/report?format=csv`)).blob();
export const planSweep = (document, signal) =>
  send("sweeps?dry_run=true", { method: "POST", headers: JSON_BODY, body: JSON.stringify(document), signal }).then(
    (r) => r.json(),
  );
export const submitSweep = (document, idempotencyKey = newId()) =>
  change("POST", "sweeps", document, { "Idempotency-Key": idempotencyKey });
export const cancelSweep = (id) => change("POST", `sweeps/${at(id)}/cancel`);
export const removeSweep = (id) => change("DELETE", `sweeps/${at(id)}`);
export const presets = () => get("presets");
export const dataset = (name) => get(`datasets/${at(name)}`);
export const samples = (name, parameters) => get(`datasets/${at(name)}/samples`, parameters);

// --- the service
/** What is the matter with the service: answers also where it is not ready. */
export const health = () =>
  get("health/ready").catch((error) => (error instanceof Problem ? null : Promise.reject(error)));
export const workers = () => get("workers");

/** What this tab's key allows: {needs_key, scope, may_read, may_change}. */
export const access = () => get("access");
export const latestEvent = async () => (await get("events/latest")).id;

// Every type but metrics and checkpoints: one sweep of 2,000 trials has 130,000 of these.
const TYPES = [
  "queued",
  "started",
  "paused",
  "resumed",
  "succeeded",
  "failed",
  "cancelled",
  "promoted",
  "worker_lost",
  "deleted",
  "sweep_created",
  "sweep_succeeded",
  "sweep_failed",
  "sweep_cancelled",
  "sweep_deleted",
];

/** The stream of events after an id, with the metrics of some runs; the caller reads its body. */
export const events = (after, metricsOf, signal) =>
  send(`events/stream${query({ after, type: TYPES, metrics_of: metricsOf })}`, { signal });

function unless(...statuses) {
  return (error) => {
    if (error instanceof Problem && statuses.includes(error.status)) return null;
    throw error;
  };
}
