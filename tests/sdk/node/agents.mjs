// One agent with a tool, over many turns: node agents.mjs AGENT MODEL, with URL, KEY and TURNS in the
// environment. Prints what it said last. Started by test_agents.py.

import assert from "node:assert/strict";

import { createOpenAI } from "@ai-sdk/openai";
import Anthropic from "@anthropic-ai/sdk";
import { betaZodTool } from "@anthropic-ai/sdk/helpers/beta/zod";
import { generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const { URL: url, KEY: apiKey, TURNS: turns } = process.env;
const [agent, model] = process.argv.slice(2);
const inputSchema = z.object({ n: z.number() });
const question = "Look everything up.";

async function toolRunner() {
  const anthropic = new Anthropic({ baseURL: url, apiKey, maxRetries: 0 });
  const lookUp = betaZodTool({
    name: "look_up",
    description: "Looks up a number.",
    inputSchema,
    run: ({ n }) => `result ${n}`,
  });
  const runner = anthropic.beta.messages.toolRunner({
    model,
    max_tokens: 1000,
    tools: [lookUp],
    messages: [{ role: "user", content: question }],
  });
  const last = await runner.runUntilDone();
  return { text: last.content[0].text, extra: 0 };
}

// The default model of `openai()`: responses, whose items the provider keeps.
async function vercel(run) {
  const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey });
  const tools = {
    look_up: tool({
      description: "Looks up a number.",
      inputSchema,
      execute: ({ n }) => `result ${n}`,
    }),
  };
  const settings = { model: openai(model), tools, stopWhen: stepCountIs(Number(turns)), maxRetries: 0 };
  // From its second turn it refers to items that this provider doesn't keep, and is told what to do.
  await assert.rejects(generateText({ ...settings, prompt: question }), (error) => {
    assert.equal(error.statusCode, 400);
    assert.match(error.message, /store: false/);
    return true;
  });
  const providerOptions = { openai: { store: false } };
  const result = await run({ ...settings, prompt: question, providerOptions });
  return { text: await result.text, extra: 1 };
}

const agents = {
  toolRunner,
  generateText: () => vercel(generateText),
  streamText: () => vercel(streamText),
};
console.log(JSON.stringify(await agents[agent]()));
