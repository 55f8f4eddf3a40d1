// One stream of events a browser, not a tab: HTTP/1.1 gives six connections an origin, and a stream holds one. A lock
// elects the tab that reads; a channel hands the events to the others. Without locks (no secure context), each tab
// reads for itself while it is seen.
import * as api from "./api.js";
import { Problem } from "./http.js";
import { store } from "./store.js";

const SILENCE_MS = 40_000; // heartbeats come every 15 s: so long without a byte is a broken connection
const LOST_MS = 3_000; // after so long without a connection, the page says so
const LONGEST_PAUSE_MS = 15_000;
const HIDDEN_MS = 30_000;
const LOCK = "digitlab-stream";

const channel = "BroadcastChannel" in self ? new BroadcastChannel(LOCK) : null;
let lastEventId = null;
let wake = () => {};

/** Begins to follow events, in this tab or in the one that is elected. */
export function follow() {
  store.connection.retry = () => wake();
  channel?.addEventListener("message", ({ data }) => {
    if (data.event) take(data.event);
    if (data.connection) store.setConnection(data.connection);
  });
  if (navigator.locks) navigator.locks.request(LOCK, () => readForever());
  else readForever(() => document.hidden);
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

async function readForever(isHidden = () => false) {
  let pause = 1000;
  let lostAt = 0;
  let wasConnected = false;
  const notice = setInterval(() => {
    if (lostAt && Date.now() - lostAt > LOST_MS) tell({ isLost: true, since: lostAt });
  }, 1000);
  for (;;) {
    const hiding = new AbortController();
    const hidden = isHidden === undefined ? null : watchHidden(isHidden, hiding);
    try {
      await readOnce(hiding, () => {
        if (lostAt || wasConnected) store.load().catch(() => {}); // what happened meanwhile
        if (lostAt) tell({ isLost: false });
        [pause, lostAt, wasConnected] = [1000, 0, true];
      });
    } catch (error) {
      if (error instanceof Problem && error.status < 500) return clearInterval(notice); // no key: nothing to follow
    } finally {
      clearInterval(hidden);
    }
    if (!isHidden()) lostAt ||= Date.now();
    await sleep(pause * (0.75 + Math.random() / 2));
    pause = Math.min(LONGEST_PAUSE_MS, pause * 2);
    while (isHidden()) await sleep(1000);
  }
}

function watchHidden(isHidden, hiding) {
  let since = null;
  return setInterval(() => {
    since = isHidden() ? since ?? Date.now() : null;
    if (since && Date.now() - since > HIDDEN_MS) hiding.abort();
  }, 1000);
}

/** Reads until the connection breaks or is silent for too long. */
async function readOnce(stop, onOpen) {
  const response = await api.events(lastEventId, stop.signal);
  onOpen();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let silence = setTimeout(() => stop.abort(), SILENCE_MS);
  try {
    for (let text = "", part; !(part = await reader.read()).done; ) {
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
