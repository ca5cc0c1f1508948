// The router and the browser that all tests share, and the checks that hold for every page.

import assert from "node:assert/strict";
import { after, before } from "node:test";

import { chromium } from "playwright-core";

import { ROOT, startRouter } from "./router.mjs";

export const stage = { router: null, browser: null };

const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

before(async () => {
  stage.router = await startRouter(process.env.LLM_ROUTER);
  stage.browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
});

after(async () => {
  await stage.browser?.close();
  await stage.router?.stop();
});

/**
 * Opens the dashboard in a tab of its own, signed in with a key (`null` for nobody). What the browser
 * complains of is kept in `problems`; statuses that a test provokes are named in `expects`.
 */
export async function open(path = "overview", { key = ROOT, expects = [], ...options } = {}) {
  const context = await stage.browser.newContext({ viewport: { width: 1280, height: 900 }, reducedMotion: "reduce", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.problems = [];
  const expected = (text) => /ERR_CONNECTION_REFUSED/.test(text) ? expects.includes("silence") : expects.some((status) => text.includes(`status of ${status}`));
  page.on("console", (message) => {
    const loud = message.type() === "error" || message.type() === "warning";
    if (loud && !expected(message.text())) page.problems.push(message.text());
  });
  page.on("pageerror", (error) => page.problems.push(error.stack));
  page.on("dialog", (dialog) => page.problems.push(`a dialog opened: ${dialog.message()}`));
  await page.addInitScript((key) => {
    addEventListener("securitypolicyviolation", (event) => console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`));
    if (key && !sessionStorage.getItem("visited")) sessionStorage.setItem("llm-router-key", key);
    sessionStorage.setItem("visited", "yes");
  }, key);
  await page.goto(`${stage.router.admin}/#/${path}`);
  return page;
}

/** Closes a tab. Nothing may have gone wrong in it, and no text may have run as a script. */
export async function close(page) {
  assert.equal(await page.evaluate(() => window.ran), undefined, "a text ran as a script");
  assert.deepEqual(page.problems, []);
  await page.context().close();
}

/** Waits until all that a page loads is there. */
export async function loaded(page) {
  await page.locator("h1").first().waitFor();
  await page.waitForFunction(() => !document.querySelector("main [aria-busy]"));
}
