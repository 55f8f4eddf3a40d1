// The router: shows the view that the fragment names.
import { enter, read } from "./address.js";
import { h, replace } from "./dom.js";
import { Problem, Unreachable } from "./http.js";
import { unlock } from "./keys.js";
import { buildBar, showPlace } from "./shell.js";
import { focusView, takeKeys } from "./shortcuts.js";
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
const ONE = new Map([["runs", "run"], ["sweeps", "sweep"]]); // what a list's place means with an id behind it
const ALL = new Map([...ONE].map(([all, one]) => [one, all])); // and what one's place means without an id
const PARENTS = { run: "runs", compare: "runs", sweep: "sweeps", data: "", states: "" };
const SKELETON_MS = 150;

let leave = null;
let isStuck = false; // whether the view could not be shown for want of an answer, or of a key
let shown = 0; // counts the views, so that a slow one does not replace a newer one

function nameOf({ place, rest }) {
  const asked = (rest.length ? ONE : ALL).get(place) ?? place;
  return Object.hasOwn(VIEWS, asked) ? asked : "draw";
}

async function show() {
  const number = ++shown;
  const { place, rest, state } = read();
  const name = nameOf({ place, rest });
  const setState = enter();
  delete document.documentElement.dataset.ready;
  showPlace(PARENTS[name] ?? name);
  leave?.();
  leave = null;
  isStuck = false;
  const main = document.getElementById("main");
  const waiting = setTimeout(() => number === shown && replace(main, skeleton()), SKELETON_MS);
  try {
    const view = await VIEWS[name]().catch(explainMissing);
    const page = await view.show({ state, rest, isShown: () => number === shown, setState });
    clearTimeout(waiting);
    if (number !== shown) return page.leave?.();
    main.replaceChildren(page.root);
    leave = page.leave ?? null;
    page.entered?.();
    document.title = `${page.title ?? view.title} · digitlab`;
  } catch (error) {
    clearTimeout(waiting);
    if (number === shown) replace(main, failure(error));
    isStuck = number === shown && (error instanceof Unreachable || error.status === 401);
  }
  if (number === shown) document.documentElement.dataset.ready = name;
}

/** A module that did not arrive is no error of the page: the service is away. */
function explainMissing(error) {
  if (error instanceof TypeError && /module/i.test(error.message)) throw new Unreachable(error.message);
  throw error;
}

/** Loads the modules of all views: a place can then be gone to while the service is away. */
function loadTheRest() {
  for (const load of Object.values(VIEWS)) load().catch(() => {});
}

function skeleton() {
  const line = (width) => h(".skeleton.line", { style: { width } });
  return h(
    ".page",
    { "aria-hidden": "true" },
    h(".card", h(".body.lines.loading", line("38%"), line("72%"), line("64%"), h(".skeleton.block"))),
  );
}

store.addEventListener("back", () => isStuck && show());

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
addEventListener("hashchange", () => show().then(focusView));

/** Asks for a key where one is needed, then shows the view and follows the events. */
async function start() {
  VIEWS[nameOf(read())]().catch(() => {}); // loads meanwhile; `show` tells what goes wrong
  await unlock().catch(() => {});
  await Promise.all([follow(), show()]); // events are followed from before the data of the view on
  (self.requestIdleCallback ?? setTimeout)(loadTheRest);
}

buildBar();
takeKeys();
start();
