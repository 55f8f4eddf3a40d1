// One stream of events a browser, not a tab: HTTP/1.1 gives six connections an origin, and a stream holds one. A lock
// elects the tab that reads; a channel hands the events to the others. Without locks (no secure context), each tab
// reads for itself while it is seen.
import * as api from "./api.js";
import { access, changes, newId, Problem } from "./http.js";
import { store } from "./store.js";

const SILENCE_MS = 40_000; // heartbeats come every 15 s: so long without a byte is a broken connection
const LOST_MS = 3_000; // after so long without a connection, the page says so
const LONGEST_PAUSE_MS = 15_000;
const HIDDEN_MS = 30_000;
const MAX_WATCHED = 64;
const LOCK = "digitlab-stream";

const tab = newId();
const channel = "BroadcastChannel" in self ? new BroadcastChannel(LOCK) : null;
const watchedBy = new Map(); // tab → ids of the runs whose metrics it shows
let lastEventId = null;
let isShutOut = false; // whether this tab has no key to follow with
let wake = () => {};
let reopen = () => {};

/** Begins to follow events, in this tab or in the one that is elected; without a key, as soon as there is one. */
export async function follow() {
  store.connection.retry = () => wake();
  channel?.addEventListener("message", ({ data }) => hear(data));
  addEventListener("pagehide", () => channel?.postMessage({ tab, watched: [] }));
  changes.addEventListener("access", () => isShutOut && access.may_read && join(true));
  if (access.may_read) await join(false);
  else isShutOut = true;
}

/** Reads what the store holds, and follows the events from before it on. */
async function join(isBack) {
  isShutOut = false;
  lastEventId ??= await api.latestEvent().catch(() => null);
  if (isBack) store.comeBack();
  else await store.load().catch(() => {});
  if (navigator.locks) navigator.locks.request(LOCK, () => readForever(() => false));
  else readForever(() => document.hidden);
}

/** Says of which runs this tab shows the metrics; those of others are not sent. */
export function watch(ids) {
  const before = watched().join();
  watchedBy.set(tab, ids.slice(0, MAX_WATCHED));
  channel?.postMessage({ tab, watched: ids });
  if (watched().join() !== before) reopen();
}

const watched = () => [...new Set([...watchedBy.values()].flat())].sort().slice(0, MAX_WATCHED);

function hear({ event, connection, isBack, asks, tab: other, watched: ids }) {
  if (event) take(event);
  if (connection) store.setConnection(connection);
  if (isBack && access.may_read) store.comeBack();
  if (asks) channel.postMessage({ tab, watched: watchedBy.get(tab) ?? [] });
  if (other) {
    const before = watched().join();
    watchedBy.set(other, ids);
    if (watched().join() !== before) reopen();
  }
}

function take(event) {
  if (lastEventId !== null && event.id <= lastEventId) return; // two tabs may both have read it
  lastEventId = event.id;
  store.take(event);
}

function tell(connection) {
  store.setConnection(connection);
  channel?.postMessage({ connection });
}

async function readForever(isHidden) {
  channel?.postMessage({ asks: true });
  let pause = 0;
  let lostAt = 0;
  const telling = setInterval(() => {
    if (lostAt && Date.now() - lostAt > LOST_MS) tell({ isLost: true, since: lostAt });
  }, 1000);
  for (;;) {
    const stop = new AbortController();
    const hiding = watchHidden(isHidden, stop);
    let isWanted = false; // whether the end of the stream was wanted here
    reopen = () => {
      isWanted = true;
      stop.abort();
    };
    try {
      await readOnce(stop, () => {
        // Another tab may have lost the connection and been closed before this one took over.
        if (lostAt || store.connection.isLost) {
          store.comeBack();
          channel?.postMessage({ isBack: true });
        }
        [pause, lostAt] = [0, 0];
      });
    } catch (error) {
      if (error instanceof Problem && [401, 403].includes(error.status)) {
        // Another tab, which may have a key, is elected; this one joins again once it has a key.
        clearInterval(telling);
        store.setConnection({ isLost: false });
        isShutOut = true;
        return;
      }
    } finally {
      clearInterval(hiding);
    }
    while (isHidden()) await sleep(1000);
    if (isWanted) continue;
    lostAt ||= Date.now();
    pause = Math.min(LONGEST_PAUSE_MS, Math.max(1000, pause * 2));
    await sleep(pause * (0.75 + Math.random() / 2));
  }
}

function watchHidden(isHidden, stop) {
  let since = null;
  return setInterval(() => {
    since = isHidden() ? (since ?? Date.now()) : null;
    if (since && Date.now() - since > HIDDEN_MS) stop.abort();
  }, 1000);
}

/** Reads until the connection breaks, is silent for too long, or is not wanted any more. */
async function readOnce(stop, onOpen) {
  const response = await api.events(lastEventId, watched(), stop.signal);
  onOpen();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let silence = setTimeout(() => stop.abort(), SILENCE_MS);
  try {
    for (let text = "", part; !(part = await reader.read()).done;) {
      clearTimeout(silence);
      silence = setTimeout(() => stop.abort(), SILENCE_MS);
      const blocks = (text + part.value).split("\n\n");
      text = blocks.pop();
      for (const block of blocks) handle(block);
    }
  } finally {
    clearTimeout(silence);
  }
}

function handle(block) {
  const data = block.match(/^data: (.*)$/m)?.[1];
  if (!data) return;
  const event = JSON.parse(data);
  take(event);
  channel?.postMessage({ event });
}

function sleep(ms) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    wake = () => {
      clearTimeout(timer);
      resolve();
    };
  });
}
