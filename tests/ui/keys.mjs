// Keys created on the page, and the other pages of an administrator.

import assert from "node:assert/strict";
import { test } from "node:test";

import { eventually } from "./router.mjs";
import { close, loaded, open, stage } from "./stage.mjs";

test("a key is shown once, works, keeps the digits of its budget when disabled, and is deleted", async () => {
  const { router } = stage;
  const page = await open("keys");
  await page.getByRole("button", { name: "New key" }).click();
  await page.getByLabel("Name", { exact: true }).fill("made here");
  await page.getByLabel("Budget in USD").fill("1.234567890123");
  await page.getByRole("button", { name: "Create key" }).click();
  const key = await page.locator("[data-secret]").textContent();
  assert.match(key, /^sk-/);
  assert.equal((await router.chat("fast", { key })).status, 200);
  await page.getByRole("button", { name: "Disable made here" }).click();
  await page.getByText("made here disabled.").waitFor();
  await eventually("the key is rejected", async () => (await router.chat("fast", { key })).status === 401);
  const told = await router.api("/api/v1/keys?name=made%20here");
  assert.ok(told.includes('"usd":1.234567890123,'), told);
  await page.reload();
  await loaded(page);
  assert.equal((await page.content()).includes(key), false);
  await page.getByRole("button", { name: "Delete made here" }).click();
  await page.locator("dialog").getByRole("button", { name: "Delete" }).click();
  await page.getByText("made here deleted.").waitFor();
  await close(page);
});

test("a provider is checked, changes are in the audit log, and the file is reloaded", async () => {
  const page = await open("providers");
  await page.getByRole("button", { name: "Check now: openai" }).click();
  await page.locator("#notes .note").first().waitFor();
  await page.goto(page.url().replace(/#.*/, "#/audit"));
  await page.getByRole("cell", { name: /made here/ }).first().waitFor();
  await page.goto(page.url().replace(/#.*/, "#/config"));
  await page.getByRole("button", { name: "Reload now" }).click();
  await page.getByText("is active.").first().waitFor();
  assert.equal((await page.content()).includes("sk-credential"), false);
  await close(page);
});
