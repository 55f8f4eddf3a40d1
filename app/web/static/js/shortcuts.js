// The keys that go places, the search, and the list of all keys. None fires in a field, below a dialogue, or with Ctrl.
import { h } from "./dom.js";

const GO = { d: "Draw", t: "Train", r: "Runs", s: "Sweeps", m: "Models" };
const PATIENCE_MS = 1500; // between the `g` and what follows it
const KEYS = [
  ["Everywhere", [...Object.entries(GO).map(([key, place]) => [["g", key], place]), [["/"], "Search runs"]]],
  ["Draw", [[["0", "–", "9"], "What the digit really was"], [["Z"], "Take the last stroke back"], [["Esc"], "Clear"]]],
  ["Pixels", [[["←", "↑", "→", "↓"], "Move"], [["Space"], "Ink or none"], [["0", "–", "9"], "How dark"]]],
  ["Train", [[["Enter"], "Train with these knobs"]]],
  ["Curves", [[["←", "→"], "Read the values, epoch by epoch"]]],
];

/** Whether a key is nobody's: no field has the focus, no dialogue is open, nothing is held down with it. */
export const isFree = (event) =>
  !event.target.matches?.("input, textarea, select") &&
  !(event.metaKey || event.ctrlKey || event.altKey) &&
  !document.querySelector("dialog[open]");

let wentAt = -Infinity;
let isSearching = false; // whether the view that comes is to be searched

/** Moves the focus into a view that was just shown. */
export function focusView() {
  const field = isSearching && searchField();
  isSearching = false;
  (field || document.getElementById("main")).focus({ preventScroll: true });
}

const searchField = () => document.querySelector('#main input[type="search"]');

function search() {
  const field = searchField();
  if (field) return field.focus();
  isSearching = true;
  return (location.hash = "#/runs");
}

export function takeKeys() {
  addEventListener("keydown", (event) => {
    if (!isFree(event)) return;
    const isSecond = event.timeStamp - wentAt < PATIENCE_MS;
    wentAt = event.key === "g" ? event.timeStamp : -Infinity;
    if (event.key === "?") showKeys();
    else if (event.key === "/") search();
    else if (isSecond && event.key in GO) location.hash = `#/${GO[event.key].toLowerCase()}`;
    else return;
    event.preventDefault();
  });
}

function showKeys() {
  const dialogue = h(
    "dialog.keys.shortcuts",
    { "aria-labelledby": "shortcuts-title", onclose: () => dialogue.remove() },
    h("h2", { id: "shortcuts-title" }, "Keys"),
    h(
      ".keylists",
      KEYS.map(([title, rows]) => h("section", h("h3", title), h("dl", rows.map(line)))),
    ),
    h("form", { method: "dialog" }, h("button.btn", "Close")),
  );
  document.body.append(dialogue);
  dialogue.showModal();
}

const line = ([keys, text]) => [
  h(
    "dt",
    keys.map((key) => (key === "–" ? " – " : h("kbd", key))),
  ),
  h("dd", text),
];
