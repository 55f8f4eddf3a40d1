// Elements without a framework. Styles are set through the CSSOM, since the page's policy forbids style attributes.
import { whenLetGo } from "./held.js";

const SVG = "http://www.w3.org/2000/svg";

/** Makes an element: h("button.btn.primary", {onclick, "aria-label": "…", style: {width: "3px"}}, child, …). */
export function h(selector, ...rest) {
  return make((tag) => document.createElement(tag), selector, rest);
}

/** The same for SVG. */
export function s(selector, ...rest) {
  return make((tag) => document.createElementNS(SVG, tag), selector, rest);
}

function make(create, selector, rest) {
  const [tag, ...classes] = selector.split(".");
  const element = create(tag || "div");
  if (classes.length) element.classList.add(...classes);
  const props = isProps(rest[0]) ? rest.shift() : {};
  for (const [name, value] of Object.entries(props)) setProp(element, name, value);
  return append(element, rest);
}

function setProp(element, name, value) {
  if (value === undefined || value === null || value === false) return;
  if (name === "style") for (const [key, each] of Object.entries(value)) element.style.setProperty(key, each);
  else if (name === "dataset") Object.assign(element.dataset, value);
  else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (name === "class") element.classList.add(...value.split(" ").filter(Boolean));
  else element.setAttribute(name, value === true ? "" : value);
}

function isProps(value) {
  return value !== null && typeof value === "object" && !(value instanceof Node) && !Array.isArray(value);
}

export function append(element, children) {
  for (const child of children.flat(4)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

/** Replaces what is inside an element, once nothing in it is held; the focus goes to what stands for what had it. */
export function replace(element, ...children) {
  whenLetGo(element, () => {
    const focused = element === document.activeElement ? null : placeOf(element, document.activeElement);
    element.replaceChildren();
    append(element, children);
    if (focused) alike(element, focused.one)[focused.number]?.focus({ preventScroll: true });
  });
  return element;
}

/** Where an element stands among those that a reader takes for the same: {one, number}; null: not inside. */
function placeOf(root, one) {
  return one && root.contains(one) ? { one, number: alike(root, one).indexOf(one) } : null;
}

/** The elements inside another one that are named like this one. */
function alike(root, one) {
  return [...root.querySelectorAll(one.tagName)].filter((each) => nameOf(each) === nameOf(one));
}

const nameOf = (element) =>
  element.dataset.focus ??
  element.getAttribute("aria-label") ??
  element.getAttribute("href") ??
  (element.id || element.name || element.textContent);

let toSay = null;
let saidAt = 0;

/** Says something to a screen reader, at most once a second; the newest text wins. */
export function announce(text) {
  const isWaiting = toSay !== null;
  toSay = text;
  if (isWaiting) return;
  setTimeout(
    () => {
      document.getElementById("live").textContent = toSay;
      saidAt = performance.now();
      toSay = null;
    },
    Math.max(0, 1000 - (performance.now() - saidAt)),
  );
}

export function toast(text, action) {
  const box = h(".toast", text, action);
  document.getElementById("toasts").append(box);
  setTimeout(() => box.remove(), 6000);
}

/** Copies a text; also where the page is no secure context (a service on a LAN address by plain HTTP). */
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h("textarea", { style: { position: "fixed", opacity: "0" } }, text);
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  toast(`${what} copied`);
}

/** Saves a blob as a file. */
export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = h("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Calls a function once a frame at most, however often it is asked for. */
export function onceAFrame(work) {
  let waiting = 0;
  return () =>
    (waiting ||= requestAnimationFrame(() => {
      waiting = 0;
      work();
    }));
}
