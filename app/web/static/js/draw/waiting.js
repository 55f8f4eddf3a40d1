// Before there is a model: says what is being trained and how far that is, and asks again as soon as there is one.
import * as api from "../api.js";
import { h } from "../dom.js";
import { int, seconds } from "../format.js";
import { store } from "../store.js";

const POLL_MS = 1000;

/**
 * @param {object} answer shows what is said
 * @param {() => boolean} hasDrawing
 * @param {() => void} askAgain
 */
export function waitForModel(answer, hasDrawing, askAgain) {
  let timer = null;
  const begin = () => {
    if (timer !== null) return;
    const look = async () => {
      const [{ runs }, hasModel] = await Promise.all([api.activity(), api.hasModel()]).catch(() => [
        { runs: [] },
        false,
      ]);
      if (timer === null) return;
      if (hasModel) {
        end();
        askAgain();
        return;
      }
      say(runs[0] ?? null);
      timer = setTimeout(look, POLL_MS);
    };
    timer = setTimeout(look, 0);
  };
  const say = (run) => {
    const kept = hasDrawing()
      ? "What you drew stays, and is answered as soon as there is a model."
      : "Draw meanwhile: it is answered as soon as there is a model.";
    if (!run)
      return answer.wait(
        "No model yet",
        [h("a", { href: "#/train" }, "Train one"), ": it takes a second or two."],
        null,
      );
    const { epoch, epochs, eta_seconds: left } = run.progress;
    const far =
      run.status === "queued"
        ? (run.hint ?? "It waits for the worker.")
        : `Epoch ${int(epoch)} of ${int(epochs)}${left ? `, about ${seconds(left)} left` : ""}.`;
    return answer.wait("Training the first model", `${far} ${kept}`, epoch / epochs);
  };
  const end = () => {
    clearTimeout(timer);
    timer = null;
    store.removeEventListener("change", look);
  };
  /** Begins to wait if there is no champion, once that is known. */
  function look() {
    if (!store.isLoaded) return store.addEventListener("change", look, { once: true });
    return store.champion === null && begin();
  }
  return {
    begin,
    look,
    end,
    get isOn() {
      return timer !== null;
    },
  };
}
