// What is seen when a provider, the configuration or the router itself is broken.

import assert from "node:assert/strict";
import { test } from "node:test";

import { eventually } from "./router.mjs";
import { close, open, stage } from "./stage.mjs";

test("a provider's outage shows, and that it is over", async () => {
  const { router } = stage;
  const page = await open();
  await page.getByText("Nothing is broken.").waitFor();
  await router.end(router.provider);
  await eventually("the outage shows", async () => {
    await router.chat("fast");
    return (await page.locator(".problems").getByText("its circuit is open").count()) > 0;
  });
  await page.getByRole("cell", { name: "failing" }).first().waitFor();
  await router.startMock();
  await eventually("it is over", async () => {
    // Each has a circuit of its own, which closes when a request went well.
    await router.chat("fast");
    await router.chat("strong");
    return (await page.getByText("Nothing is broken.").count()) > 0;
  }, 60);
  await close(page);
});

test("a refused configuration shows", async () => {
  const page = await open();
  const mend = await stage.router.breakConfig();
  await page.getByText("The configuration file was refused").waitFor();
  await mend();
  await page.getByText("The configuration file was refused").waitFor({ state: "detached" });
  await close(page);
});

test("a router that is gone is said to be, and what is shown to be old", async () => {
  const page = await open("overview", { expects: ["silence"] });
  await page.getByText("Nothing is broken.").waitFor();
  await stage.router.end(stage.router.server);
  await page.getByText("The router doesn't answer.").waitFor();
  assert.match(await page.getByRole("alert").textContent(), /What you see is from .* ago/);
  await stage.router.start();
  await page.getByText("The router doesn't answer.").waitFor({ state: "hidden" });
  await close(page);
});
