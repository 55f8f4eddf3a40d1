// The dialogue that asks for a key. The key is kept in this tab's session only: never in an address, a log, or localStorage.
import { h, replace } from "./dom.js";
import { access, changes, setKeyDialogue } from "./http.js";

export const NEEDS_ADMIN = "This key can predict and read. A change needs an admin key.";

/** Shows the dialogue until a key is given or the dialogue is closed; returns the key or null. */
function ask(wasWrong) {
  return new Promise((resolve) => {
    const field = h("input.input", { type: "password", autocomplete: "off", id: "key", spellcheck: "false" });
    const dialogue = h("dialog.keys", { "aria-labelledby": "keys-title" });
    const close = (key) => {
      dialogue.close();
      dialogue.remove();
      resolve(key);
    };
    replace(dialogue,
      h("form", { method: "dialog", onsubmit: (event) => {
        event.preventDefault();
        if (field.value.trim()) close(field.value.trim());
      } },
        h("h2", { id: "keys-title" }, "This service asks for a key"),
        h("p.muted", "A predict key can draw and look. Training and every other change need an admin key."),
        wasWrong && h("p.down", { role: "alert" }, "The service does not know this key."),
        h("label.field", h("span.label", "Key"), field),
        h(".chips", h("button.btn.primary", "Use it"), h("button.btn", { type: "button", onclick: () => close(null) }, "Not now")),
        h("p.small.faint", "Kept in this tab until the tab is closed.")));
    dialogue.addEventListener("cancel", () => close(null));
    document.body.append(dialogue);
    dialogue.showModal();
    field.focus();
  });
}

/** Disables a button that changes something, with the reason, once the key is known not to allow it. */
export function guard(button) {
  const look = () => {
    if (access.scope !== "predict") return;
    button.setAttribute("aria-disabled", "true");
    button.title = NEEDS_ADMIN;
  };
  button.addEventListener("click", (event) => {
    if (access.scope !== "predict") return;
    event.preventDefault();
    event.stopImmediatePropagation();
  }, { capture: true });
  changes.addEventListener("refused", look);
  look();
  return button;
}

setKeyDialogue(ask);
