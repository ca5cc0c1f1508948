// Starts the dashboard: sign-in and navigation between pages.

import { may, read, session, NetworkError } from "./api.js";
import { fill, h } from "./dom.js";
import { failure } from "./parts.js";
import { PAGES } from "./pages.js";
import { frame, mark } from "./frame.js";
import { signIn } from "./sign_in.js";
import { startTicking } from "./tick.js";

/**
 * Arguments of a page: the element to draw in, its address, and a signal for its end.
 * @typedef {object} View
 * @property {HTMLElement} root
 * @property {string[]} path segments after the page's name in the address
 * @property {URLSearchParams} query
 * @property {AbortSignal} signal
 */

const app = /** @type {HTMLElement} */ (document.getElementById("app"));
let leave = new AbortController();

/** @returns {{ name: string, path: string[], query: URLSearchParams }} */
function address() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name = "", ...rest] = path.split("/").map(decodeURIComponent);
  return { name, path: rest, query: new URLSearchParams(query) };
}

/** Draws the page named by the address. */
function show() {
  leave.abort();
  leave = new AbortController();
  if (!session.me) return;
  const { name, path, query } = address();
  const allowed = PAGES.filter((page) => may(page.role) && !(page.below && may(page.below)));
  const page = allowed.find((page) => page.name === name);
  if (!page) {
    location.replace(`#/${allowed[0].name}`);
    return;
  }
  const root = h("div", { class: `page ${page.name}` });
  const main = mark(page);
  document.title = `${page.title} · LLM Router`;
  fill(main, root);
  main.scrollTop = 0;
  scrollTo(0, 0);
  page.draw({ root, path, query, signal: leave.signal }).catch((error) => {
    if (!leave.signal.aborted) fill(root, failure(error, show));
  });
}

/** Signs in with the stored key, if it is still valid. */
async function start() {
  if (!session.key) return signIn(app, onSignedIn);
  try {
    session.me = await read("/api/v1/me");
  } catch (error) {
    if (error instanceof NetworkError) return fill(app, h("div", { class: "alone" }, failure(error, start)));
    return signIn(app, onSignedIn, "This key is no longer valid.");
  }
  onSignedIn();
}

function onSignedIn() {
  frame(app, signOut);
  show();
}

function signOut(why = "") {
  leave.abort();
  session.end();
  signIn(app, onSignedIn, why);
}

addEventListener("hashchange", show);
addEventListener("signed-out", () => session.me && signOut("Your key is no longer valid. Sign in with another one."));
startTicking();
start();
