// What is around every page: menu, who is signed in, whether the router answers.

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
 * Draws the frame.
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
    h("a", { class: "skip", href: "#main", onclick: toMain }, "To the content"),
    h("header", { class: "side" }, h("div", { class: "brand" }, logo(), h("span", null, "LLM Router"), opener), menu, who),
    h("div", { class: "body" }, banner, main));
  connection.addEventListener("change", () => say(banner));
  say(banner);
}

/** @param {Event} event */
function toMain(event) {
  // The address is the page's: it must not become "#main".
  event.preventDefault();
  main.focus();
}

/**
 * Says that what is shown is old.
 * @param {HTMLElement} banner
 */
function say(banner) {
  const lost = connection.lostAt;
  document.body.classList.toggle("stale", lost !== null);
  banner.hidden = lost === null;
  if (lost === null) return fill(banner);
  const heard = connection.heardAt;
  fill(banner, h("strong", null, "The router doesn't answer."), " ",
    heard ? ["What you see is from ", moment(new Date(heard).toISOString()), ", ", ago(heard), "."] : null,
    " Trying again.");
}

/**
 * Marks a page in the menu; where it is to be drawn.
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
