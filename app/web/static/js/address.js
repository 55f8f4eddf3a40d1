// The view and its state are the fragment, `#/runs?status=failed&sort=-val_accuracy`: no path of the API is taken,
// nothing of it reaches a server's log, and a link opens what its sender saw.

let visit = 0; // counts the views that are shown
let known = null; // the fragment as the view that is shown found it, or wrote it last

/** Reads the fragment: the place, what follows it in the path, and the state. */
export function read() {
  const [path, query] = location.hash.slice(2).split("?");
  const [place = "draw", ...rest] = path.split("/").filter(Boolean).map(decode);
  return { place, rest, state: new URLSearchParams(query) };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/**
 * Begins a visit of a view and returns its `setState`, which writes as long as the view is the one that the address
 * names: what a view was waiting for when it was left belongs into no other view's address.
 */
export function enter() {
  const own = ++visit;
  known = location.hash;
  return (changes) => {
    if (own === visit && location.hash === known) setState(changes);
  };
}

/** Changes the state without a new entry in the history; null and "" take a key out, an array repeats it. */
export function setState(changes) {
  const [path, query] = location.hash.slice(1).split("?");
  const state = new URLSearchParams(query);
  for (const [key, value] of Object.entries(changes)) {
    state.delete(key);
    const values = Array.isArray(value) ? value : [value];
    for (const each of values) if (each !== null && each !== undefined && each !== "") state.append(key, each);
  }
  const text = state.toString();
  history.replaceState(null, "", `${location.search}#${path || "/draw"}${text ? `?${text}` : ""}`);
  known = location.hash;
}

/** Writes a link to a place with a state. */
export function link(path, state = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(state)) {
    for (const each of Array.isArray(value) ? value : [value])
      if (each !== null && each !== "") query.append(key, each);
  }
  const text = query.toString();
  return `#/${path}${text ? `?${text}` : ""}`;
}
