// Sign-in, and the pages that each role sees.

import assert from "node:assert/strict";
import { test } from "node:test";

import { LOOKER, ROOT, TEAM } from "./router.mjs";
import { close, loaded, open } from "./stage.mjs";

test("an invalid key is rejected; a valid one signs in and is kept for the tab only", async () => {
  const page = await open("", { key: null, expects: [401] });
  await page.getByLabel("Key").fill("sk-wrong-0123456789");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("Invalid key").waitFor();
  await page.getByLabel("Key").fill(ROOT);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  const kept = await page.evaluate(() => [Object.values(localStorage).join(), sessionStorage.getItem("llm-router-key")]);
  assert.deepEqual([kept[0].includes("sk-"), kept[1]], [false, ROOT]);
  await page.reload();
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Key").waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.getItem("llm-router-key")), null);
  await close(page);
});

test("a viewer sees everything and no button that would be refused", async () => {
  const page = await open("overview", { key: LOOKER });
  assert.equal(await page.getByRole("switch").isDisabled(), true);
  for (const path of ["rules", "explain", "providers", "keys", "config", "audit"]) {
    await page.goto(page.url().replace(/#.*/, `#/${path}`));
    await loaded(page);
    const buttons = await page.locator("main").getByRole("button").allTextContents();
    const links = await page.locator("main a.main").allTextContents();
    const writing = [...buttons, ...links].filter((text) => /new|save|delete|disable|reload|rotate|check now|roll/i.test(text));
    assert.deepEqual(writing, [], path);
  }
  await close(page);
});

test("a user sees its own costs and requests, and nothing else", async () => {
  const page = await open("overview", { key: TEAM });
  await page.getByRole("heading", { name: "My key" }).waitFor();
  assert.deepEqual(await page.locator("nav a").allTextContents(), ["My key", "Cost", "Requests"]);
  await page.getByText("team-a-app").first().waitFor();
  await page.locator("[data-amount='12.345678901']").waitFor();
  await close(page);
});

test("deep links and the back button work", async () => {
  const page = await open("requests?status=599");
  await page.getByText("No requests match these filters.").waitFor();
  await page.goto(page.url().replace(/#.*/, "#/rules"));
  await page.getByRole("heading", { name: "Rules" }).waitFor();
  await page.goBack();
  await page.getByText("No requests match these filters.").waitFor();
  assert.equal(await page.getByLabel("Status").inputValue(), "599");
  await close(page);
});
