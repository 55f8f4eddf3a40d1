// The dialogue that asks for a key. The key is kept in this tab's session only: never in an address, a log, or
// localStorage.
import * as api from "./api.js";
import { h, replace, toast } from "./dom.js";
import { access, changes, currentKey, isKey, setAccess, setKeyDialogue, useKey } from "./http.js";

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

/** Asks for another key in place of this tab's; it keeps its own if none is given that the service knows. */
async function change() {
  const before = currentKey();
  const key = await ask(false);
  if (key === null) return;
  useKey(key);
  await unlock(true);
  if (currentKey() !== null) return;
  useKey(before);
  await unlock();
}

/** Shows the dialogue; returns the key that was typed, null if the dialogue was closed. */
function ask(wasWrong) {
  return new Promise((resolve) => {
    const field = h("input.input", { type: "password", autocomplete: "off", id: "key", spellcheck: "false" });
    const dialogue = h("dialog.keys", { "aria-labelledby": "keys-title" });
    const refusal = h("p.down", { role: "alert", hidden: !wasWrong }, "The service does not know this key.");
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
            const key = field.value.trim();
            if (!key) return;
            if (isKey(key)) return close(key);
            refusal.textContent = "A key has no spaces, and only letters, digits and signs of ASCII.";
            refusal.hidden = false;
            field.select();
          },
        },
        h("h2", { id: "keys-title" }, "This service asks for a key"),
        h("p.muted", "A predict key can draw and look. Training and every other change need an admin key."),
        refusal,
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

const guarded = new Set(); // weak references: views are drawn again and again

/** Disables a button that changes something, with the reason, once the key is known not to allow it. */
export function guard(button) {
  button.dataset.guarded = button.title; // what it says when it is allowed
  button.addEventListener(
    "click",
    (event) => {
      if (access.may_change) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      explain();
    },
    { capture: true },
  );
  guarded.add(new WeakRef(button));
  look(button);
  return button;
}

function look(button) {
  if (access.may_change) button.removeAttribute("aria-disabled");
  else button.setAttribute("aria-disabled", "true");
  button.title = access.may_change ? button.dataset.guarded : NEEDS_ADMIN;
}

/** Says what is missing, and offers the dialogue: a title is not seen by fingers. */
function explain() {
  toast(NEEDS_ADMIN, h("button.btn.ghost", { onclick: () => change().catch(() => {}) }, "Use another key"));
}

changes.addEventListener("access", () => {
  for (const reference of guarded) {
    const button = reference.deref();
    if (button) look(button);
    else guarded.delete(reference);
  }
});
setKeyDialogue(unlock);
