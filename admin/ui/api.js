// Asks the admin API with the key of this tab, and knows whether the router answers at all.

import { parseExact } from "./exact.js";

const STORED = "llm-router-key";

/** An answer that says no. */
export class Refusal extends Error {
  /**
   * @param {number} status
   * @param {any} error the `error` of the answer
   * @param {string | null} retryAfter
   */
  constructor(status, error, retryAfter) {
    super(error?.message ?? `The router answered with status ${status}.`);
    this.status = status;
    this.code = error?.code ?? "";
    this.field = error?.field ?? null;
    this.errors = error?.errors ?? [];
    this.retryAfter = retryAfter;
  }
}

/** There was no answer. */
export class Silence extends Error {}

/** @typedef {{ role: string, name: string, owner: string | null, key: any, clients_port: number }} Me */

export const session = {
  /** @type {Me | null} */
  me: null,
  get key() {
    return sessionStorage.getItem(STORED);
  },
  /** @param {string} key */
  keep(key) {
    sessionStorage.setItem(STORED, key);
  },
  end() {
    sessionStorage.removeItem(STORED);
    this.me = null;
  },
};

const ROLES = ["user", "viewer", "operator", "admin"];

/**
 * Whether the key of this tab has the role or one above.
 * @param {string} role
 */
export function may(role) {
  return ROLES.indexOf(session.me?.role ?? "") >= ROLES.indexOf(role);
}

/** Whether the router answers; those who listen are told when that changes. */
export const connection = new (class extends EventTarget {
  /** @type {number | null} */
  lostAt = null;
  /** @type {number | null} */
  heardAt = null;
  /** How far the router's clock is ahead of ours, in milliseconds. */
  ahead = 0;

  /** @param {Response} response */
  heard(response) {
    this.heardAt = Date.now();
    const told = Date.parse(response.headers.get("date") ?? "");
    // The header has whole seconds: less than two are no difference.
    if (told) this.ahead = Math.abs(told - Date.now()) < 2000 ? 0 : told - Date.now();
    if (this.lostAt === null) return;
    this.lostAt = null;
    this.dispatchEvent(new Event("change"));
  }

  lost() {
    if (this.lostAt !== null) return;
    this.lostAt = Date.now();
    this.dispatchEvent(new Event("change"));
  }
})();

/** The time by the router's clock. */
export const routerTime = () => Date.now() + connection.ahead;

/** @typedef {{ method?: string, body?: any, text?: string, etag?: string | null, signal?: AbortSignal, key?: string }} Asked */

/**
 * Asks, and gives what was answered: its body, and its ETag.
 * @param {string} path
 * @param {Asked} [asked]
 * @returns {Promise<{ body: any, text: string, etag: string | null, status: number }>}
 */
export async function ask(path, asked = {}) {
  const { method = "GET", body, etag, signal, key = session.key } = asked;
  /** @type {Record<string, string>} */
  const headers = { authorization: `Bearer ${key}` };
  const sent = asked.text ?? (body === undefined ? undefined : JSON.stringify(body));
  if (sent !== undefined) headers["content-type"] = "application/json";
  if (etag) headers["if-match"] = etag;
  let response, text;
  try {
    const limit = AbortSignal.timeout(15_000);
    const ends = signal ? AbortSignal.any([signal, limit]) : limit;
    response = await fetch(path, { method, headers, body: sent, signal: ends, cache: "no-store" });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    connection.lost();
    throw new Silence("The router doesn't answer.");
  }
  connection.heard(response);
  const isJson = response.headers.get("content-type")?.startsWith("application/json");
  const told = isJson ? parseExact(text) : null;
  if (response.ok) return { body: told, text, etag: response.headers.get("etag"), status: response.status };
  if (response.status === 401 && key === session.key) dispatchEvent(new Event("signed-out"));
  throw new Refusal(response.status, told?.error, response.headers.get("retry-after"));
}

/**
 * The body of an answer to GET.
 * @param {string} path
 * @param {AbortSignal} [signal]
 */
export const read = async (path, signal) => (await ask(path, { signal })).body;

/**
 * A path with the parameters that are set.
 * @param {string} path
 * @param {Record<string, any>} parameters
 */
export function withQuery(path, parameters) {
  const set = Object.entries(parameters).filter(([, value]) => value !== "" && value != null);
  const query = new URLSearchParams(set.map(([name, value]) => [name, String(value)])).toString();
  return query ? `${path}?${query}` : path;
}

/**
 * Every item of a list, page by page, up to a bound.
 * @param {string} path
 * @param {AbortSignal} [signal]
 * @param {number} [most]
 * @returns {Promise<{ items: any[], more: boolean }>}
 */
export async function readAll(path, signal, most = 2000) {
  const items = [];
  let cursor = null;
  do {
    const page = await read(withQuery(path, { limit: 500, cursor }), signal);
    items.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor && items.length < most);
  return { items, more: Boolean(cursor) };
}
