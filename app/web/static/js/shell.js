// The bar: where one is, what is being trained, who answers; and the banner when something is the matter.
import { h, replace, s } from "./dom.js";
import { int, pct } from "./format.js";
import { icon, stateIcon } from "./icons.js";
import { store } from "./store.js";

const PLACES = [
  ["draw", "Draw"],
  ["train", "Train"],
  ["runs", "Runs"],
  ["sweeps", "Sweeps"],
  ["models", "Models"],
];

const mark = () =>
  s(
    "svg",
    { viewBox: "0 0 8 8", "shape-rendering": "crispEdges", "aria-hidden": "true" },
    s("rect", { width: 8, height: 8, rx: 1.6, fill: "var(--accent)" }),
    s("path", { fill: "var(--accent-ink)", d: "M2 1h4v1H2zM5 2h1v2H5zM3 3h2v1H3zM5 4h1v2H5zM2 6h4v1H2z" }),
  );

const training = h("a.pulse.training");
const answering = h("a.pulse.answering", { href: "#/models" });
const banners = h(".banners");
const links = PLACES.map(([path, name]) => h("a", { href: `#/${path}` }, icon(path), name));

export function buildBar() {
  replace(
    document.getElementById("bar"),
    h("a.brand", { href: "#/draw", "aria-label": "digitlab" }, mark(), h("span", "digitlab")),
    h("nav.nav", { "aria-label": "Views" }, links),
    h("span.spacer"),
    training,
    answering,
    h(
      "button.btn.ghost.icon.wide",
      { "aria-label": "Light or dark", title: "Light or dark", onclick: toggleTheme },
      icon("sun"),
    ),
  );
  document.getElementById("bar").after(banners);
  store.addEventListener("change", showState);
  showState();
}

/** Marks the place in the navigation. */
export function showPlace(place) {
  PLACES.forEach(([path], i) => {
    if (path === place) links[i].setAttribute("aria-current", "page");
    else links[i].removeAttribute("aria-current");
  });
}

function showState() {
  const { running, queued } = store.counts;
  const what = running ? `${int(running)} training` : queued ? `${int(queued)} queued` : "idle";
  const rest = running && queued ? ` · ${int(queued)} queued` : "";
  training.href = running ? "#/runs?status=running" : queued ? "#/runs?status=queued" : "#/runs";
  training.classList.toggle("wide", !running && !queued);
  training.setAttribute("aria-label", `${what}${rest}`);
  replace(
    training,
    h(
      "span.status",
      { class: running ? "running" : "queued" },
      stateIcon(running ? "running" : queued ? "queued" : "succeeded"),
    ),
    running || queued ? h("span", h("b", what), h("span.wider", rest)) : what,
  );
  const champion = store.champion;
  if (champion) {
    answering.title = `${champion.reason}: ${champion.model.name}`;
    replace(
      answering,
      h("span.star", { "aria-hidden": "true" }, "★"),
      h("b.wider", champion.model.name || "unnamed run"),
      h("span", h("span.sr", "champion, val accuracy "), pct(champion.model.val_accuracy, 1)),
    );
  } else replace(answering, store.isLoaded ? h("span.faint", "no model yet") : "");
  showBanners();
}

function showBanners() {
  replace(
    banners,
    store.connection.isLost &&
      h(
        ".banner",
        { role: "status" },
        icon("warn"),
        h(
          "span",
          h("b", "Not connected."),
          ` What you see is ${int((Date.now() - store.connection.since) / 1000)} s old.`,
        ),
        h("button.btn.end", { onclick: () => store.connection.retry() }, "Try now"),
      ),
    store.warnings.map((text) => h(".banner", { role: "status" }, icon("warn"), h("span", text))),
  );
}

function toggleTheme() {
  const root = document.documentElement;
  const isDark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
  dispatchEvent(new Event("themechange"));
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("themechange")));
