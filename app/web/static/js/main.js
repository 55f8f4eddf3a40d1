// The router: shows the view that the fragment names. Shortcuts go places, and never fire in a field.
import { read } from "./address.js";
import * as api from "./api.js";
import { h, replace } from "./dom.js";
import { Problem, Unreachable } from "./http.js";
import { unlock } from "./keys.js";
import { buildBar, showPlace } from "./shell.js";
import { store } from "./store.js";
import { follow } from "./stream.js";

const VIEWS = {
  draw: () => import("./views/draw.js"),
  train: () => import("./views/train.js"),
  runs: () => import("./views/runs.js"),
  run: () => import("./views/run.js"),
  compare: () => import("./views/compare.js"),
  sweeps: () => import("./views/sweeps.js"),
  sweep: () => import("./views/sweep.js"),
  models: () => import("./views/models.js"),
  data: () => import("./views/data.js"),
  states: () => import("./views/states.js"),
};
const PARENTS = { run: "runs", compare: "runs", sweep: "sweeps", data: "", states: "" };
const SKELETON_MS = 150;
const GO = { d: "draw", t: "train", r: "runs", s: "sweeps", m: "models" };

let leave = null;
let shown = 0; // counts the views, so that a slow one does not replace a newer one

function nameOf({ place, rest }) {
  const asked = rest.length && place === "runs" ? "run" : rest.length && place === "sweeps" ? "sweep" : place;
  return asked in VIEWS ? asked : "draw";
}

async function show() {
  const number = ++shown;
  const { place, rest, state } = read();
  const name = nameOf({ place, rest });
  delete document.documentElement.dataset.ready;
  showPlace(PARENTS[name] ?? name);
  leave?.();
  leave = null;
  const main = document.getElementById("main");
  const waiting = setTimeout(() => number === shown && replace(main, skeleton()), SKELETON_MS);
  try {
    const view = await VIEWS[name]();
    const page = await view.show({ state, rest, isShown: () => number === shown });
    clearTimeout(waiting);
    if (number !== shown) return page.leave?.();
    replace(main, page.root);
    leave = page.leave ?? null;
    page.entered?.();
    document.title = `${page.title ?? view.title} · digitlab`;
  } catch (error) {
    clearTimeout(waiting);
    if (number === shown) replace(main, failure(error));
  }
  if (number === shown) document.documentElement.dataset.ready = name;
}

function skeleton() {
  const line = (width) => h(".skeleton.line", { style: { width } });
  return h(
    ".page",
    { "aria-hidden": "true" },
    h(".card", h(".body.lines.loading", line("38%"), line("72%"), line("64%"), h(".skeleton.block"))),
  );
}

function failure(error) {
  if (!(error instanceof Problem || error instanceof Unreachable)) console.error(error);
  const [title, note] = explain(error);
  const retry = async () => {
    if (error.status === 401) await unlock();
    show();
  };
  return h(
    ".page",
    h(
      ".card",
      h(
        ".empty",
        { role: "alert" },
        h("strong", title),
        h("span", note),
        h("button.btn", { onclick: retry }, error.status === 401 ? "Enter a key" : "Try again"),
      ),
    ),
  );
}

function explain(error) {
  if (error instanceof Problem) return [error.message, `${error.status} · request ${error.requestId}`];
  if (error instanceof Unreachable) return ["The service does not answer", "What you see here will be back with it."];
  return ["This view could not be shown", String(error)];
}

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the fragment is the router's
  document.getElementById("main").focus();
});
addEventListener("hashchange", () => show().then(() => document.getElementById("main").focus({ preventScroll: true })));

let wentAt = 0;
addEventListener("keydown", (event) => {
  if (event.target.matches?.("input, textarea, select") || event.metaKey || event.ctrlKey || event.altKey) return;
  if (event.key === "g") wentAt = Date.now();
  else if (event.key === "/") focusSearch(event);
  else if (event.key in GO && Date.now() - wentAt < 1500) location.hash = `#/${GO[event.key]}`;
});

function focusSearch(event) {
  const field = document.querySelector('input[type="search"]');
  if (!field) return;
  event.preventDefault();
  field.focus();
}

/** Asks for a key where one is needed, then shows the view, and follows events from before its data on. */
async function start() {
  VIEWS[nameOf(read())]().catch(() => {}); // loads meanwhile; `show` tells what goes wrong
  await unlock().catch(() => {});
  const shown = show();
  const after = await api.latestEvent().catch(() => null);
  await store.load().catch(() => {});
  follow(after);
  await shown;
}

buildBar();
start();
