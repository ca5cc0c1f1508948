// Calls the admin API with the key of this tab, and tracks whether the router is reachable.

import { parseExact } from "./exact.js";

const STORED = "llm-router-key";

/** An error answered by the API. */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {any} error the field `error` of the answer
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

/** A request without an answer. */
export class NetworkError extends Error {}

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
 * Returns true if the key of this tab has the role or a higher one.
 * @param {string} role
 */
export function may(role) {
  return ROLES.indexOf(session.me?.role ?? "") >= ROLES.indexOf(role);
}

/** Tracks whether the router is reachable; dispatches `change` when that changes. */
export const connection = new (class extends EventTarget {
  /** @type {number | null} */
  lostAt = null;
  /** @type {number | null} */
  lastAnswerAt = null;
  /** Milliseconds by which the router's clock is ahead of this one. */
  ahead = 0;

  /** @param {Response} response */
  answered(response) {
    this.lastAnswerAt = Date.now();
    const date = Date.parse(response.headers.get("date") ?? "");
    // The header has whole seconds, so a difference below two is noise.
    if (date) this.ahead = Math.abs(date - Date.now()) < 2000 ? 0 : date - Date.now();
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

/** The current time of the router's clock. */
export const routerTime = () => Date.now() + connection.ahead;

/** @typedef {{ method?: string, body?: any, text?: string, etag?: string | null, signal?: AbortSignal, key?: string }} Asked */

/**
 * Sends a request and returns the body and the ETag of the answer.
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
    throw new NetworkError("The router is not responding.");
  }
  connection.answered(response);
  const isJson = response.headers.get("content-type")?.startsWith("application/json");
  const json = isJson ? parseExact(text) : null;
  if (response.ok) return { body: json, text, etag: response.headers.get("etag"), status: response.status };
  if (response.status === 401 && key === session.key) dispatchEvent(new Event("signed-out"));
  throw new ApiError(response.status, json?.error, response.headers.get("retry-after"));
}

/**
 * Sends GET and returns the body of the answer.
 * @param {string} path
 * @param {AbortSignal} [signal]
 */
export const read = async (path, signal) => (await ask(path, { signal })).body;

/**
 * Adds parameters to a path, except empty ones.
 * @param {string} path
 * @param {Record<string, any>} parameters
 */
export function withQuery(path, parameters) {
  const set = Object.entries(parameters).filter(([, value]) => value !== "" && value != null);
  const query = new URLSearchParams(set.map(([name, value]) => [name, String(value)])).toString();
  return query ? `${path}?${query}` : path;
}

/**
 * Reads the items of a list page by page, up to a maximum.
 * @param {string} path
 * @param {AbortSignal} [signal]
 * @param {{ parameters?: Record<string, any>, limit?: number, most?: number }} [options]
 * @returns {Promise<{ items: any[], more: boolean }>}
 */
export async function readAll(path, signal, { parameters = {}, limit = 500, most = 2000 } = {}) {
  const items = [];
  let cursor = null;
  do {
    const page = await read(withQuery(path, { ...parameters, limit, cursor }), signal);
    items.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor && items.length < most);
  return { items, more: Boolean(cursor) };
}
