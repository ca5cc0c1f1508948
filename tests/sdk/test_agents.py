"""Agents with tools over many turns, with what their SDKs do by default: Anthropic's tool runner in
Python and Node, and the AI SDK of Vercel. The providers are scripted, one of each vendor."""

import json
import os
import pathlib
import subprocess

import anthropic
import pytest

from agent_upstream import DONE, TURNS, Chat, Gemini, Messages, Upstream
from conftest import Router

NODE = pathlib.Path(__file__).parent / "node"
CONFIG = """
server: {{ listen: "127.0.0.1:{port}" }}
admin: {{ listen: "127.0.0.1:{admin}" }}
store: {{ url: "sqlite:{folder}/llm-router.db" }}
providers:
  - {{ id: openai, type: custom, base_url: "{chat}/v1", responses: false, models: ["*"] }}
  - {{ id: anthropic, type: anthropic, base_url: "{messages}/v1", api_key: k, models: ["*"] }}
  - {{ id: gemini, type: gemini, base_url: "{gemini}/v1beta", api_key: k, models: ["*"] }}
keys:
  - {{ name: sdk, key: "${{SDK_KEY}}", role: user, owner: tests }}
"""
MODELS = {"openai": "openai/m", "anthropic": "anthropic/claude-x", "gemini": "gemini/gemini-x"}


@pytest.fixture(scope="module")
def agents(tmp_path_factory):
    upstreams = {
        "openai": Upstream(Chat()),
        "anthropic": Upstream(Messages()),
        "gemini": Upstream(Gemini()),
    }
    urls = dict(zip(("chat", "messages", "gemini"), (one.url for one in upstreams.values())))
    router = Router(tmp_path_factory.mktemp("agents"), CONFIG, **urls)
    yield router, upstreams
    router.stop()


@anthropic.beta_tool
def look_up(n: int) -> str:
    """Looks up a number.

    Args:
        n: The number.
    """
    return f"result {n}"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("vendor", MODELS)
def test_anthropics_tool_runner(agents, vendor, stream):
    router, upstreams = agents
    upstream = upstreams[vendor]
    answered, threads = upstream.answered, upstream.threads
    sdk = anthropic.Anthropic(base_url=router.url, api_key=router.key, max_retries=0)
    runner = sdk.beta.messages.tool_runner(
        model=MODELS[vendor],
        max_tokens=1000,
        tools=[look_up],
        messages=[{"role": "user", "content": "Look everything up."}],
        stream=stream,
    )
    last = runner.until_done()
    assert last.content[0].text == DONE, upstream.refusals
    assert upstream.answered - answered == TURNS + 1, upstream.refusals
    # Anthropic keeps the thread; for the others the SDK sends the whole conversation.
    assert upstream.threads - threads == (TURNS + 1 if vendor == "anthropic" else 0)
    assert not upstream.refusals


@pytest.mark.parametrize("agent", ["toolRunner", "generateText", "streamText"])
@pytest.mark.parametrize("vendor", MODELS)
def test_node_agents(agents, vendor, agent):
    router, upstreams = agents
    upstream = upstreams[vendor]
    answered = upstream.answered
    environment = {**os.environ, "URL": router.url, "KEY": router.key, "TURNS": str(TURNS + 1)}
    command = ["node", "agents.mjs", agent, MODELS[vendor]]
    ran = subprocess.run(command, cwd=NODE, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, (ran.stdout + ran.stderr, upstream.refusals)
    said = json.loads(ran.stdout.splitlines()[-1])
    assert said["text"] == DONE
    assert upstream.answered - answered == TURNS + 1 + said["extra"]
    assert not upstream.refusals
