// Draw a digit; see the 8×8 that the model sees; see what it answers, and how sure it is.
import * as api from "../api.js";
import { h, toast } from "../dom.js";
import { makeAnswer } from "../draw/answer.js";
import { Asker } from "../draw/asker.js";
import { makeDigits } from "../draw/digits.js";
import { makeOpinions } from "../draw/opinions.js";
import { makePad } from "../draw/pad.js";
import { isPicture, pasted, prepare } from "../draw/picture.js";
import { makeSeen } from "../draw/seen.js";
import { waitForModel } from "../draw/waiting.js";
import { Problem } from "../http.js";
import { icon } from "../icons.js";
import { unlock } from "../keys.js";
import { isFree } from "../shortcuts.js";
import { store } from "../store.js";
import { pack, rowsOf, unpack } from "../tiles.js";

export const title = "Draw";

// A new champion answers as soon as the API has seen it; until then the one before does, and is asked again.
const FOLLOW_MS = 500;
const MAX_FOLLOWING = 10;

export function show({ state, isShown, setState }) {
  let drawing = null; // {strokes} or {pixels} or {file}; null: nothing is drawn
  let digit = null;
  let changed = 0; // counts the drawings, so that a picture that takes long to read replaces no newer one
  let isUnanswered = false; // whether the last question for the drawing failed
  let named = null; // the model that answered, if it is not the champion
  const following = { left: 0, timer: null }; // questions that are left until the new champion answers
  const answer = makeAnswer(correct);
  const seen = makeSeen(state.get("show") === "why" ? "why" : "pixels", {
    paint: (pixels, said) => change({ pixels, said }),
    view: (name) => {
      setState({ show: name === "pixels" ? null : name });
      seen.show(seen.pixels, digit);
    },
  });
  const pad = makePad({ change: (strokes) => change({ strokes }, false), end, file: readFile });
  const opinions = makeOpinions(() => store.champion?.model.run_id, setState);
  const digits = makeDigits(showAgain);
  const waiting = waitForModel(answer, () => drawing !== null, askAgain);
  const asker = new Asker((what) => api.predict(bodyOf(what)), take, refuse);

  const undo = h("button.btn.ghost", { onclick: goBack }, icon("undo"), "Undo", h("kbd", "Z"));
  const clear = h("button.btn.ghost", { onclick: () => change(null) }, icon("trash"), "Clear", h("kbd", "Esc"));
  const file = h("input.sr", {
    type: "file",
    accept: "image/*",
    tabindex: -1,
    "aria-label": "Picture of a digit",
    onchange: () => {
      if (file.files[0]) readFile(file.files[0]);
      file.value = "";
    },
  });
  const upload = h("button.btn.ghost", { onclick: () => file.click() }, icon("upload"), "Picture");

  /** Shows another drawing and asks for it. */
  function change(next, isNew = true) {
    const isEmpty = next === null || next.strokes?.length === 0 || next.pixels?.every((v) => v === 0);
    if (next === null) digits.close();
    changed += 1;
    isUnanswered = false;
    drawing = isEmpty ? null : next;
    for (const button of [undo, clear]) button.disabled = !drawing;
    if (isNew) pad.show(drawing?.strokes ?? [], drawing === null);
    seen.refuse(null);
    if (drawing === null) {
      showNothing();
      return;
    }
    if (drawing.pixels) seen.show(drawing.pixels, null);
    ask();
  }
  function ask() {
    if (waiting.isOn) return;
    isUnanswered = false;
    answer.setBusy(true);
    asker.request(drawing);
  }
  function showNothing() {
    asker.cancel();
    answer.setBusy(false);
    digit = null;
    if (!waiting.isOn) answer.empty();
    seen.show(null, null);
    opinions.ask(null, null);
    setState({ x: null });
  }
  function take({ model, predictions: [prediction] }, what) {
    if (!isShown()) return;
    waiting.end();
    answer.setBusy(drawing !== null && what !== drawing);
    if (drawing === null || (what !== drawing && !what.strokes)) return; // it was cleared meanwhile
    const pixels = prediction.pixels?.flat() ?? what.pixels;
    digit = prediction.verdict === "blank" ? null : prediction.digit;
    answer.show(prediction);
    seen.show(pixels, digit);
    if (what === drawing && (drawing.isEnded || !drawing.strokes)) setState({ x: pack(pixels).replace(/0+$/, "") });
    showModel(model);
    opinions.ask(pixels, digit);
    if (what === drawing && drawing.isEnded && digit !== null) remember(what, pixels, prediction, model);
    if (what === drawing && what.said) answer.say(`${what.said}. `);
  }
  function remember(what, pixels, prediction, model) {
    digits.remember({
      pixels,
      strokes: what.strokes,
      digit: prediction.digit,
      verdict: prediction.verdict,
      run_id: model.run_id,
    });
    answer.say();
  }
  function refuse(error, what) {
    if (!isShown()) return;
    answer.setBusy(drawing !== null && what !== drawing);
    if (error instanceof Problem && error.slug === "no-saved-model") return waiting.begin();
    if (what !== drawing) return; // it was cleared meanwhile, or another one is asked now
    isUnanswered = true;
    if (what.file && error instanceof Problem) seen.refuse(error.message);
    const enter = error.status === 401 && h("button.btn", { onclick: () => unlock().catch(() => {}) }, "Enter a key");
    answer.refuse(error.errors?.[0]?.detail ?? error.message, error.requestId, enter);
  }
  async function showModel(model) {
    const champion = store.champion?.model;
    clearTimeout(following.timer);
    if (champion?.run_id === model.run_id) return answer.showModel(champion, true);
    // The champion has changed just now, or its file is damaged.
    if (following.left-- > 0) following.timer = setTimeout(askAgain, FOLLOW_MS);
    const asked = (named = { ...model, name: "another model" });
    answer.showModel(named, false);
    const run = await api.run(model.run_id).catch(() => null);
    if (run && named === asked && isShown()) answer.showModel({ ...model, name: run.name }, false);
  }
  function askAgain() {
    if (drawing) ask();
    else if (!waiting.isOn) answer.empty();
    opinions.load().catch(() => {});
  }
  function followChampion() {
    following.left = MAX_FOLLOWING;
    askAgain();
  }
  /** Goes on after the service was away, or this tab had no key. */
  function goOn() {
    if (isUnanswered) askAgain();
    else opinions.load().catch(() => {});
  }
  function end() {
    if (drawing?.strokes) change({ ...drawing, isEnded: true }, false);
  }
  function goBack() {
    change(drawing?.strokes?.length > 1 ? { strokes: drawing.strokes.slice(0, -1), isEnded: true } : null);
  }
  function correct(label) {
    if (digit === null) return;
    if (!drawing.isEnded) digits.remember({ pixels: seen.pixels, digit, run_id: store.champion?.model.run_id });
    digits.label(label);
    change(null);
  }
  function showAgain(entry) {
    digits.close();
    change(entry.strokes ? { strokes: entry.strokes } : { pixels: entry.pixels });
  }
  async function readFile(picture) {
    if (!isPicture(picture)) return toast("That is no picture. PNG, JPEG, WebP, BMP and GIF can be read.");
    const own = ++changed;
    const prepared = await prepare(picture);
    if (own !== changed || !isShown()) return undefined;
    digits.close();
    return change({ file: prepared, isEnded: true });
  }

  const paste = (event) => {
    const picture = pasted(event);
    if (picture) readFile(picture);
  };
  const keys = (event) => {
    if (!isFree(event)) return;
    if (event.key === "Escape") change(null);
    else if (event.key === "z") goBack();
    else if (/^[0-9]$/.test(event.key)) correct(Number(event.key));
  };
  addEventListener("paste", paste);
  addEventListener("keydown", keys);
  store.addEventListener("champion", followChampion);
  store.addEventListener("back", goOn);

  const root = h(
    ".page.draw",
    h("h1.sr", "Draw a digit"),
    h("section.card.draw-pad", pad.root, h(".padtools", undo, clear, h("span.spacer"), file, upload)),
    seen.root,
    answer.root,
    opinions.root,
    digits.root,
  );
  return {
    root,
    entered() {
      const packed = state.get("x");
      change(packed ? { pixels: unpack(packed) } : null);
      opinions.load().catch(() => {});
      waiting.look();
    },
    leave() {
      removeEventListener("paste", paste);
      removeEventListener("keydown", keys);
      store.removeEventListener("champion", followChampion);
      store.removeEventListener("back", goOn);
      clearTimeout(following.timer);
      waiting.end();
      pad.leave();
    },
  };
}

function bodyOf({ strokes, pixels, file }) {
  if (file) return file;
  return strokes ? { strokes: [strokes] } : { instances: [rowsOf(pixels)] };
}
