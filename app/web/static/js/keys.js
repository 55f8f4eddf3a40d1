// The dialogue that asks for a key. The key is kept in this tab's session only: never in an address, a log, or
// localStorage.
import * as api from "./api.js";
import { h, replace } from "./dom.js";
import { access, changes, setAccess, setKeyDialogue, useKey } from "./http.js";

const NEEDS_ADMIN = "This key can predict and read. A change needs an admin key.";

/**
 * Asks what this tab may do, and for a key until it may read or the dialogue is closed. Returns the key, if one was
 * given.
 */
export async function unlock(wasWrong = false) {
  for (let key = null; ; wasWrong = true) {
    const found = await api.access();
    setAccess(found);
    if (found.may_read) return key;
    key = await ask(wasWrong);
    useKey(key);
    if (key === null) return null;
  }
}

/** Shows the dialogue; returns the key that was typed, null if the dialogue was closed. */
function ask(wasWrong) {
  return new Promise((resolve) => {
    const field = h("input.input", { type: "password", autocomplete: "off", id: "key", spellcheck: "false" });
    const dialogue = h("dialog.keys", { "aria-labelledby": "keys-title" });
    const close = (key) => {
      dialogue.close();
      dialogue.remove();
      resolve(key);
    };
    replace(
      dialogue,
      h(
        "form",
        {
          method: "dialog",
          onsubmit: (event) => {
            event.preventDefault();
            if (field.value.trim()) close(field.value.trim());
          },
        },
        h("h2", { id: "keys-title" }, "This service asks for a key"),
        h("p.muted", "A predict key can draw and look. Training and every other change need an admin key."),
        wasWrong && h("p.down", { role: "alert" }, "The service does not know this key."),
        h("label.field", h("span.label", "Key"), field),
        h(
          ".chips",
          h("button.btn.primary", "Use it"),
          h("button.btn", { type: "button", onclick: () => close(null) }, "Not now"),
        ),
        h("p.small.faint", "Kept in this tab until the tab is closed."),
      ),
    );
    dialogue.addEventListener("cancel", () => close(null));
    document.body.append(dialogue);
    dialogue.showModal();
    field.focus();
  });
}

/** Disables a button that changes something, with the reason, once the key is known not to allow it. */
export function guard(button) {
  const title = button.title;
  const look = () => {
    if (access.may_change) button.removeAttribute("aria-disabled");
    else button.setAttribute("aria-disabled", "true");
    button.title = access.may_change ? title : NEEDS_ADMIN;
  };
  button.addEventListener(
    "click",
    (event) => {
      if (access.may_change) return;
      event.preventDefault();
      event.stopImmediatePropagation();
    },
    { capture: true },
  );
  changes.addEventListener("access", look);
  look();
  return button;
}

setKeyDialogue(unlock);
