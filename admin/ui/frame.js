// The frame of every page: menu, signed-in key, connection banner.

import { connection, may, session } from "./api.js";
import { fill, h, svg } from "./dom.js";
import { ago, moment } from "./format.js";
import { PAGES } from "./pages.js";
import { applyTheme, nextTheme, themeName } from "./theme.js";

/** @type {HTMLElement} */
let main;
/** @type {HTMLElement} */
let menu;

/**
 * Draws the frame of the pages.
 * @param {HTMLElement} app
 * @param {() => void} signOut
 */
export function frame(app, signOut) {
  const me = session.me;
  main = h("main", { id: "main", tabindex: "-1" });
  const links = PAGES.filter((page) => may(page.role) && !(page.below && may(page.below)))
    .map((page) => h("li", null, h("a", { href: `#/${page.name}`, data: { page: page.name } }, page.title)));
  const opener = h("button", { class: "plain opener", "aria-expanded": "false", "aria-controls": "menu",
    onclick: () => open(opener.getAttribute("aria-expanded") !== "true") }, "Menu");
  const open = (/** @type {boolean} */ wanted) => {
    opener.setAttribute("aria-expanded", String(wanted));
    menu.classList.toggle("open", wanted);
  };
  menu = h("nav", { id: "menu", "aria-label": "Pages", onclick: () => open(false) }, h("ul", null, links));
  const theme = h("button", { class: "plain", onclick: () => fill(theme, nextTheme()) }, themeName());
  const who = h("div", { class: "who" },
    h("div", { class: "name", title: me?.name }, me?.name),
    h("div", { class: "role" }, me?.role, me?.owner && me.owner !== me.name ? ` · ${me.owner}` : ""),
    h("div", { class: "row" }, theme, h("button", { class: "plain", onclick: () => signOut() }, "Sign out")));
  const banner = h("div", { class: "lost", role: "alert", hidden: true });
  fill(app,
    h("a", { class: "skip", href: "#main", onclick: toMain }, "Skip to content"),
    h("header", { class: "side" }, h("div", { class: "brand" }, logo(), h("span", null, "LLM Router"), opener), menu, who),
    h("div", { class: "body" }, banner, main));
  connection.addEventListener("change", () => showConnection(banner));
  showConnection(banner);
}

/** @param {Event} event */
function toMain(event) {
  // The fragment names the page: it must not become "#main".
  event.preventDefault();
  main.focus();
}

/**
 * Warns that the data on the page is outdated while the router is not responding.
 * @param {HTMLElement} banner
 */
function showConnection(banner) {
  const lost = connection.lostAt;
  document.body.classList.toggle("stale", lost !== null);
  banner.hidden = lost === null;
  if (lost === null) return fill(banner);
  const lastAnswer = connection.lastAnswerAt;
  fill(banner, h("strong", null, "The router is not responding."), " ",
    lastAnswer ? ["Showing data from ", moment(new Date(lastAnswer).toISOString()), ", ", ago(lastAnswer), "."] : null,
    " Reconnecting…");
}

/**
 * Marks a page in the menu and returns the element to draw it in.
 * @param {import("./pages.js").Page} page
 */
export function mark(page) {
  for (const link of menu.querySelectorAll("a")) {
    if (link.dataset.page === page.name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  return main;
}

export function logo() {
  const line = { fill: "none", stroke: "currentColor", "stroke-width": 2.6, "stroke-linecap": "round" };
  return svg("svg", { class: "logo", viewBox: "0 0 32 32", "aria-hidden": "true" },
    svg("path", { ...line, d: "M4 16h8c5 0 4-7.5 9-7.5h4" }),
    svg("path", { ...line, d: "M12 16c5 0 4 7.5 9 7.5h4", opacity: 0.5 }),
    svg("circle", { class: "chosen", cx: 26, cy: 8.5, r: 3 }),
    svg("circle", { cx: 26, cy: 23.5, r: 2.6, fill: "currentColor", opacity: 0.5 }));
}

applyTheme();
