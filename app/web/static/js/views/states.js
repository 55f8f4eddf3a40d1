// What every view looks like when there is nothing, not yet, or an error; and the parts that views are made of.
import { h } from "../dom.js";
import { icon, stateIcon } from "../icons.js";

export const title = "States";

export function show() {
  const swatch = (name) =>
    h("div.swatch", h("i", { style: { background: `var(--${name})` } }), h("span.small.muted", name));
  const status = (name) => h("span.status", { class: name }, stateIcon(name), name);
  const line = (width) => h(".skeleton.line", { style: { width } });
  return {
    root: h(
      ".page.states",
      h("h1", "Parts and states"),
      h(
        "section.card",
        h("header", h("h2", "Empty")),
        h(
          ".empty",
          icon("train", { width: 24, height: 24 }),
          h("strong", "No runs yet"),
          h("span", "The first one takes a second."),
          h(".chips", h("button.btn.primary", "Train the defaults"), h("button.btn", "Choose a preset")),
          h("pre", { tabindex: 0 }, "digitlab train --preset dropout-tanh"),
        ),
      ),
      h(
        "section.card",
        h("header", h("h2", "No champion yet")),
        h(
          ".empty",
          h("span.status.running", stateIcon("running"), "training the first model"),
          h("strong", "Your 3 will be answered in about 4 s"),
          h("span", "What you drew stays."),
          h(".track.wait", h("i", { style: { width: "58%" } })),
        ),
      ),
      h(
        "section.card",
        h("header", h("h2", "Loading")),
        h(
          ".body.lines",
          h("p.small.faint", "Shapes of what comes, after 150 ms; never a spinner over a page."),
          line("38%"),
          line("72%"),
          line("64%"),
          h(".skeleton.block"),
        ),
      ),
      h(
        "section.card",
        h("header", h("h2", "Connection")),
        h(
          ".body.lines",
          h(
            ".banner",
            icon("warn"),
            h("span", h("b", "Not connected."), " What you see is 12 s old; trying again in 4 s."),
            h("button.btn.end", "Now"),
          ),
          h(
            ".banner.bad",
            icon("warn"),
            h("span", h("b", "No worker is alive."), " 3 runs wait. Start one: ", h("code", "digitlab worker")),
          ),
          h(
            ".banner",
            icon("info"),
            h("span", "The champion's file is damaged: ", h("b", "defaults"), " answers in its place."),
          ),
        ),
      ),
      h(
        "section.card",
        h("header", h("h2", "Refused: the server's words, at the field")),
        h(
          ".body.lines",
          h(
            ".field",
            h(".label", h("span", "Learning rate")),
            h("input.input", { value: "300", "aria-invalid": "true", "aria-label": "Learning rate" }),
            h("span.error", "Input should be less than or equal to 100"),
          ),
          h("p.small.faint", "422, errors[0].pointer = #/training/optimizer/learning_rate · request 6cfa04b63727-2f4"),
        ),
      ),
      h(
        "section.card",
        h("header", h("h2", "Key needed")),
        h(
          ".empty",
          h("strong", "This service asks for a key"),
          h("span", "A predict key can draw and look; training needs an admin key."),
          h(
            "form.chips",
            h("input.input", { type: "password", placeholder: "key", "aria-label": "Key", autocomplete: "off" }),
            h("button.btn.primary", { type: "button" }, "Use it"),
          ),
          h("span.small.faint", "Kept in this tab until it is closed."),
        ),
      ),
      h(
        "section.card",
        h("header", h("h2", "States")),
        h(".body.row", ["queued", "running", "paused", "succeeded", "failed", "cancelled"].map(status)),
      ),
      h(
        "section.card",
        h("header", h("h2", "Controls")),
        h(
          ".body.row",
          h("button.btn.primary", "Train", h("kbd", "⏎")),
          h("button.btn", "Pin"),
          h("button.btn.ghost", "Clear"),
          h("button.btn", { disabled: true }, "Disabled"),
          h(".seg", h("button", { "aria-pressed": "true" }, "Heat map"), h("button", "Parallel")),
          h("span.chip", "lr ", h("b", "0.03")),
          h("span.chip.accent", "★ champion"),
          h("span.chip.good", "within noise"),
          h("span.chip.bad", "diverged"),
          h("span.chip.warn", "pinned"),
        ),
      ),
      h(
        "section.card.full",
        h(
          "header",
          h("h2", "Colours"),
          h("span.note", "Okabe and Ito for data, the same roles as in the service's own pictures"),
        ),
        h(
          ".body.row",
          [
            "val",
            "train",
            "seen",
            "ghost",
            "c1",
            "c2",
            "c3",
            "c4",
            "c5",
            "c6",
            "accent",
            "good",
            "bad",
            "warn",
            "ink",
            "ink-2",
            "ink-3",
            "line",
            "sunken",
            "tile-minus",
            "tile-plus",
          ].map(swatch),
        ),
      ),
    ),
  };
}
