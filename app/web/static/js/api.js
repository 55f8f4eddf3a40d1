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

// --- predictions ------------------------------------------------------------------------------------------------------
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

// --- models -----------------------------------------------------------------------------------------------------------
export const models = (parameters) => get("models", parameters);
export const hasModel = async () => (await models({ limit: 1 })).data.length > 0;

/** The champion, null before there is one. The list is asked first: it has no error for "none yet". */
export const champion = async () => ((await hasModel()) ? get("models/champion").catch(unless(404)) : null);
export const pin = (runId) => change("PUT", "models/champion", { run_id: runId });
export const unpin = () => change("DELETE", "models/champion");
export const rollBack = () => change("POST", "models/champion/rollback");

// --- runs -------------------------------------------------------------------------------------------------------------
export const runs = (parameters) => get("runs", parameters);
export const run = (id) => get(`runs/${at(id)}`);
export const plan = (document, signal) =>
  send("runs?dry_run=true", { method: "POST", headers: JSON_BODY, body: JSON.stringify(document), signal }).then((r) => r.json());
export const submit = (document, idempotencyKey = newId()) =>
  change("POST", "runs", document, { "Idempotency-Key": idempotencyKey });
export const patch = (id, fields) => change("PATCH", `runs/${at(id)}`, fields);
export const remove = (id) => change("DELETE", `runs/${at(id)}`);
export const act = (id, action) => change("POST", `runs/${at(id)}/${action}`); // cancel, pause, resume
export const metrics = (id, points) => get(`runs/${at(id)}/metrics`, { points });
export const summary = (id) => get(`runs/${at(id)}/summary`);
export const weights = (id, parameters) => get(`runs/${at(id)}/weights`, parameters);
export const confusion = (id) => get(`runs/${at(id)}/confusion`);
export const mistakes = (id, parameters) => get(`runs/${at(id)}/mistakes`, parameters);
export const modelFile = async (id) => (await send(`runs/${at(id)}/model.onnx`)).blob();

/** The runs that are running and queued, the running ones first: what the bar and Draw tell about. */
export async function activity() {
  const [running, queued] = await Promise.all([
    runs({ status: "running", sort: "created_at", limit: 200 }),
    runs({ status: "queued", sort: "created_at", limit: 200 }),
  ]);
  const counts = { running: running.data.length, queued: queued.data.length };
  return { runs: [...running.data, ...queued.data], counts, isAll: !running.has_more && !queued.has_more };
}

/**
 * The rows of Runs: runs without the trials of sweeps, and each sweep as a row where the newest come first.
 * The filter is {status, q, kind, tag, sweep, sort, trials}.
 */
export async function listRuns({ status, q, kind, tag, sweep, sort, trials, limit, after }) {
  const page = await runs({ status, model_kind: kind, tag, sweep_id: sweep, sort, limit, after });
  const words = (q ?? "").toLowerCase();
  const isWanted = (each) => (trials || sweep || !each.sweep_id) && textOf(each).includes(words);
  const mine = page.data.filter(isWanted);
  if (status || kind || tag || sweep || sort !== "-created_at") return { ...page, data: mine };
  const ids = [...new Set(page.data.map((each) => each.sweep_id).filter(Boolean))];
  const groups = (await Promise.all(ids.map((id) => sweepById(id)))).filter((each) => each && each.name.toLowerCase().includes(words));
  const data = [...mine, ...groups.map(asRow)].sort((a, b) => b.created_at.localeCompare(a.created_at));
  return { ...page, data };
}

const sweepById = (id) => get(`sweeps/${at(id)}`).catch(unless(404));
const textOf = ({ name, tags }) => [name, ...Object.entries(tags).map((tag) => tag.join(":"))].join(" ").toLowerCase();

/** A sweep as a row of Runs. */
export function asRow(sweep) {
  const paths = Object.entries(sweep.parameters ?? {}).map(([path, values]) => `${LABELS[path] ?? path} × ${Array.isArray(values) ? values.length : "range"}`);
  return {
    ...sweep, is_sweep: true, num_parameters: null, paths: paths.length ? paths : [`list of ${sweep.points.length}`],
    seconds: (new Date(sweep.finished_at) - new Date(sweep.created_at)) / 1000,
  };
}

/** The configuration of a run that asks for nothing. */
let defaultsOnce = null;
export const defaults = () => (defaultsOnce ??= plan({}).then((each) => each.config, (error) => {
  defaultsOnce = null;
  throw error;
}));

/** Runs by id, those that are gone left out. */
export async function runsById(ids) {
  const found = await Promise.all(ids.map((id) => run(id).catch(unless(404))));
  return found.filter(Boolean);
}

/** Val accuracy over epochs, by run, for small lines: {id: {epoch, val_accuracy}}. */
export async function series(ids, points) {
  const found = await Promise.all(ids.map((id) => metrics(id, points).catch(unless(404))));
  const columns = found.map((page) => page && {
    epoch: page.data.map((row) => row.epoch),
    val_accuracy: page.data.map((row) => row.val_accuracy),
  });
  return Object.fromEntries(ids.map((id, i) => [id, columns[i]]).filter(([, each]) => each));
}

// --- sweeps, presets, data ----------------------------------------------------------------------------------------------
export const sweeps = (parameters) => get("sweeps", parameters);
export const sweep = (id) => get(`sweeps/${at(id)}`);
export const report = (id) => get(`sweeps/${at(id)}/report`);
export const planSweep = (document, signal) =>
  send("sweeps?dry_run=true", { method: "POST", headers: JSON_BODY, body: JSON.stringify(document), signal }).then((r) => r.json());
export const submitSweep = (document, idempotencyKey = newId()) =>
  change("POST", "sweeps", document, { "Idempotency-Key": idempotencyKey });
export const cancelSweep = (id) => change("POST", `sweeps/${at(id)}/cancel`);
export const removeSweep = (id) => change("DELETE", `sweeps/${at(id)}`);
export const presets = () => get("presets");
export const dataset = (name) => get(`datasets/${at(name)}`);
export const samples = (name, parameters) => get(`datasets/${at(name)}/samples`, parameters);

// --- the service --------------------------------------------------------------------------------------------------------
/** What is the matter with the service: answers also where it is not ready. */
export const health = () => get("health/ready").catch((error) => (error instanceof Problem ? null : Promise.reject(error)));
export const workers = () => get("workers");

/** The stream of events; the caller reads its body. */
export const events = (lastEventId, signal) =>
  send("events/stream", { signal, headers: lastEventId ? { "Last-Event-ID": lastEventId } : {} });

function unless(...statuses) {
  return (error) => {
    if (error instanceof Problem && statuses.includes(error.status)) return null;
    throw error;
  };
}
