// From knobs to a submission: what differs from the preset or the run that one starts from, by dotted path.
/** How the knobs' values stand in an address; what has no entry is JSON. */
const FORMS = {
  "model.hidden_sizes": {
    write: (sizes) => (sizes.length ? sizes.join("-") : "linear"),
    read: (text) =>
      text === "linear"
        ? []
        : text.split("-").map((width) => {
            if (!/^\d+$/.test(width)) throw new TypeError(`no width: ${width}`);
            return Number(width);
          }),
  },
  text: { write: String, read: (text) => text },
};
const TEXTS = new Set([
  "model.activation",
  "training.optimizer.kind",
  "training.schedule.kind",
  "scaling",
  "training.keep",
]);
const JSON_FORM = { write: JSON.stringify, read: (text) => JSON.parse(text) };
const MAX_NAME = 200;
const NOT_KNOBS = new Set(["preset", "from", "run", "ghost", "at"]);

const formOf = (path) => FORMS[path] ?? (TEXTS.has(path) ? FORMS.text : JSON_FORM);

/** Reads the changed knobs out of an address; what cannot be read is left out. */
export function readChanges(state) {
  const changes = new Map();
  for (const [path, text] of state) {
    if (NOT_KNOBS.has(path) || path.split(".").some((key) => key in Object.prototype)) continue;
    try {
      changes.set(path, formOf(path).read(text));
    } catch {
      // a link that was cut or typed: the knob stays as it is
    }
  }
  return changes;
}

/** Returns the changes as parts of an address. */
export const writeChanges = (changes) =>
  Object.fromEntries([...changes].map(([path, value]) => [path, formOf(path).write(value)]));

/** The body of `POST /runs`. */
export function toDocument({ preset, from }, changes, name) {
  const document = from ? { from_run: from } : { preset };
  if (name) document.name = name;
  for (const [path, value] of changes) {
    const keys = path.split(".");
    const last = keys.pop();
    let place = document;
    for (const key of keys) place = place[key] ??= {};
    place[last] = value;
  }
  return document;
}

/** The value of a configuration at a dotted path. */
export function valueAt(config, path) {
  return path.split(".").reduce((place, key) => place?.[key], config);
}

/** What a run is called that is given no name: where it starts from, and what differs; as long as a name may be. */
export function nameOf(start, changes, describe) {
  const parts = [...changes].map(([path, value]) => describe(path, value));
  return Array.from([start, ...parts].join(", ")).slice(0, MAX_NAME).join(""); // by code points, as the service counts
}

/** The dotted path that an error's pointer means: `#/training/optimizer/learning_rate`. */
export const pathOf = (pointer) => pointer.replace(/^#\//, "").replaceAll("/", ".");

export const isSame = (a, b) => JSON.stringify(a) === JSON.stringify(b);
