// The routing toggle.

import assert from "node:assert/strict";
import { test } from "node:test";

import { eventually, HOSTILE, OPERATOR } from "./router.mjs";
import { close, open, stage } from "./stage.mjs";

const status = async () => JSON.parse(await stage.router.api("/api/v1/router/status"));

test("a delayed change counts down on the page, is pending in the API, and can be cancelled", async () => {
  const page = await open();
  await page.getByRole("switch").click();
  await page.getByLabel("Reason").fill(HOSTILE);
  await page.getByLabel("Delay in seconds").fill("120");
  await page.getByRole("button", { name: "Turn off" }).click();
  await page.getByText("Turns off in").waitFor();
  const pending = (await status()).pending;
  assert.deepEqual([pending.value, pending.reason, pending.actor], [false, HOSTILE, "root"]);
  const left = page.locator(".pending .countdown");
  const first = await left.textContent();
  await page.waitForFunction(([selector, before]) => document.querySelector(selector).textContent !== before, [".pending .countdown", first]);
  assert.match(await left.textContent(), /^1 min \d+ s$/);
  await page.getByRole("button", { name: "Cancel change" }).click();
  await page.getByText("Turns off in").waitFor({ state: "detached" });
  assert.equal((await status()).pending, null);
  await page.getByText("cancelled").first().waitFor();
  await close(page);
});

test("the keyboard alone switches it off and on again", async () => {
  const page = await open("overview", { key: OPERATOR, expects: [409] });
  await page.getByRole("switch").waitFor();
  const tabTo = async (name) => {
    for (let i = 0; i < 40; i++) {
      await page.keyboard.press("Tab");
      if (await page.evaluate((name) => document.activeElement?.getAttribute("aria-label") === name, name)) return;
    }
    throw new Error(`Tab never reaches ${name}`);
  };
  await tabTo("Rule-based routing");
  await page.keyboard.press("Space");
  await page.keyboard.type("by keyboard");
  await page.keyboard.press("Tab");
  await page.keyboard.type("0");
  await page.keyboard.press("Enter");
  await eventually("routing is off", async () => (await status()).enabled === false);
  await page.getByText("Off", { exact: true }).waitFor();
  // The dialog returns the focus to the toggle.
  await page.waitForFunction(() => document.activeElement?.getAttribute("role") === "switch");
  await page.keyboard.press("Enter");
  await page.keyboard.type("too soon, or not");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector("dialog .failure") || !document.querySelector("dialog"));
  if (await page.locator("dialog").count()) await page.keyboard.press("Escape");
  await page.locator("dialog").waitFor({ state: "detached" });
  await stage.router.api("/api/v1/router/toggle", { method: "POST", body: { value: true, reason: "as before", force: true } });
  await page.getByText("On", { exact: true }).waitFor();
  await close(page);
});
