// Requests to the service: the key, problem bodies, what a broken connection is. All addresses are relative, so that
// the page also works below a prefix of a proxy. Which calls there are is in api.js.

/** An answer with an RFC 9457 body. */
export class Problem extends Error {
  constructor(status, body, headers) {
    super(body.detail ?? `The service answered ${status}.`);
    this.status = status;
    this.slug = (body.type ?? "").split("/").at(-1);
    this.errors = body.errors ?? [];
    this.requestId = body.request_id ?? headers.get("X-Request-ID");
    this.retryAfter = Number(headers.get("Retry-After")) || null;
  }
}

/** The service did not answer at all. */
export class Unreachable extends Error {}

const KEY = "digitlab-key";
const DATE_MS = 2000; // `Date` has whole seconds, and the answer was on its way
let askForKey = null; // set by keys.js; returns a promise of a key, null if none was given
let asking = null; // one dialogue for all calls that wait
let isDeclined = false; // whether the dialogue was closed without a key
let behind = 0; // milliseconds that this machine's clock is behind the service's

export const changes = new EventTarget(); // "access": what the key allows is known anew

/** What the key of this tab allows, as `GET /access` says. */
export const access = { needs_key: false, scope: null, may_read: true, may_change: true };

export function setAccess(next) {
  Object.assign(access, next);
  changes.dispatchEvent(new Event("access"));
}

export function setKeyDialogue(ask) {
  askForKey = ask;
}

/** The service's time, by the `Date` of its answers. */
export const now = () => Date.now() + behind;

/** Whether a text can be a key: the service has none with other letters, and a request could not carry them. */
export const isKey = (text) => /^[\x21-\x7e]+$/.test(text);

export function currentKey() {
  const key = sessionStorage.getItem(KEY);
  return key !== null && isKey(key) ? key : null;
}

function headersWithKey(headers) {
  const key = currentKey();
  return key ? { ...headers, Authorization: `Bearer ${key}` } : headers;
}

/**
 * Sends a request and returns the response if it is a success.
 *
 * @param {string} path relative, without a slash at its start
 * @param {object} options method, headers, body, signal as for `fetch`
 * @throws {Problem} the service refuses
 * @throws {Unreachable} the service does not answer
 */
export async function send(path, options = {}) {
  const usedKey = currentKey();
  let response;
  try {
    response = await fetch(path, { ...options, headers: headersWithKey(options.headers ?? {}) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Unreachable("The service does not answer.");
  }
  const date = Date.parse(response.headers.get("Date"));
  if (date) behind = Math.abs(date - Date.now()) > DATE_MS ? date - Date.now() : 0;
  if (response.ok) return response;
  if (response.status === 401 && askForKey && (await getKey(usedKey))) return send(path, options);
  throw new Problem(response.status, await response.json().catch(() => ({})), response.headers);
}

async function getKey(usedKey) {
  const stored = currentKey();
  if (stored && stored !== usedKey) return stored; // another call has asked meanwhile
  if (isDeclined) return null;
  asking ??= askForKey(usedKey !== null).finally(() => (asking = null));
  const key = await asking;
  isDeclined = key === null;
  return key;
}

/** Takes a key for this tab. Null: none was given, so the one that it has is forgotten and no call asks again. */
export function useKey(key) {
  isDeclined = key === null;
  if (key === null) sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, key);
}

/** A random id; `crypto.randomUUID` exists in secure contexts only. */
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

/**
 * The `Idempotency-Key` of each submission: the same body keeps its key until it is answered, so that one whose answer
 * was lost makes nothing twice, and another body has a key of its own.
 */
export class SubmissionKeys {
  #keys = new Map(); // by body

  of(document) {
    const body = JSON.stringify(document);
    if (!this.#keys.has(body)) this.#keys.set(body, newId());
    return this.#keys.get(body);
  }

  /** The submission was accepted: the same body is another submission from now on. */
  done(document) {
    this.#keys.delete(JSON.stringify(document));
  }
}

export function query(parameters) {
  const text = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== null && each !== undefined && each !== "") text.append(name, each);
    }
  }
  return text.size ? `?${text}` : "";
}
