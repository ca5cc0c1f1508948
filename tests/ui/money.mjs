// Costs have the exact digits of the API, on the page and in the CSV file.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import { eventually, HOSTILE } from "./router.mjs";
import { close, loaded, open, stage } from "./stage.mjs";

/** The digits that the API writes, which a JSON parser would round. */
const digits = (text) => [...text.matchAll(/"cost_usd":([-\d.eE+]+)/g)].map(([, amount]) => amount);

test("every amount has the API's own digits", async () => {
  const { router } = stage;
  for (let i = 0; i < 6; i++) await router.chat(i % 2 ? "fast" : "strong", { user: HOSTILE, content: "x".repeat(77 * i) });
  await router.chat("openai/a-model-without-price");
  const current = await router.api("/api/v1/cost/current");
  assert.ok(digits(current)[2].length > 10, current);
  const page = await open();
  for (const [name, amount] of [["today", 0], ["month", 1], ["total", 2]]) {
    const shown = page.locator(`[data-spend='${name}'] .digits`);
    await eventually(`${name} has the API's digits`, async () => (await shown.textContent()) === digits(current)[amount]);
  }
  await page.goto(page.url().replace(/#.*/, "#/cost?range=all"));
  await loaded(page);
  const summary = await router.api("/api/v1/cost/summary");
  const users = await router.api("/api/v1/cost/by-user");
  const shown = await page.locator(".digits").allTextContents();
  // A model without any price has no amount: that isn't 0.
  const known = [...digits(summary), ...digits(users)].filter((amount) => amount !== "0");
  for (const amount of known) assert.ok(shown.includes(amount), `${amount} is not among ${shown}`);
  await page.getByText("1 request not included").waitFor();
  await page.getByRole("cell", { name: "no price", exact: true }).first().waitFor();
  await close(page);
});

test("the file has the digits too, and no formula", async () => {
  await stage.router.chat("fast", { user: "=1+1" });
  const page = await open("cost?range=all");
  await loaded(page);
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "CSV of cost by end user" }).click()]);
  const text = await readFile(await download.path(), "utf8");
  for (const amount of digits(await stage.router.api("/api/v1/cost/by-user"))) assert.ok(text.includes(`,${amount},`), `${amount} is not in ${text}`);
  assert.ok(text.includes("'=1+1,"), text);
  await close(page);
});

test("amounts that no float can hold are read as they are written", async () => {
  const page = await open();
  const found = await page.evaluate(async () => {
    const { amountParts, parseExact } = await import("/ui/exact.js");
    const read = parseExact(String.raw`{"cost_usd":123456789012.000000000000001,"a":"\"cost_usd\":1.50","list":[{"cost_usd" : 0.10}],"requests":2,"cost_usd_":1e2}`);
    return [read, amountParts("1234567.891")];
  });
  assert.deepEqual(found, [
    { cost_usd: "123456789012.000000000000001", a: '"cost_usd":1.50', list: [{ cost_usd: "0.10" }], requests: 2, cost_usd_: 100 },
    { groups: ["1", "234", "567"], cents: ".89", rest: "1" },
  ]);
  await close(page);
});
