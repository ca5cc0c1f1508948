"""Every official SDK against every provider's format. The outcome is the table in
docs/translation.md: `UPDATE_DOCS=1` rewrites it, otherwise it must be as it is."""

import collections
import json
import os
import pathlib
import subprocess
import time
import urllib.request

import pytest

from conftest import KEY, ROOT, Router, free_port
from pair_clients import CLIENTS, PIXEL, TOOL
from recorder import Recorder

DOCS = ROOT / "docs/translation.md"
BEGIN = "<!-- begin of the pairs; `UPDATE_DOCS=1 python -m pytest tests/sdk/test_pairs.py` rewrites them -->"
END = "<!-- end of the pairs -->"
NODE = pathlib.Path(__file__).parent / "node"
PROVIDERS = {"openai": "gpt-5", "anthropic": "claude-sonnet-4-5", "gemini": "gemini-3-pro"}
CONFIG = """
server: {{ listen: "127.0.0.1:{port}" }}
admin: {{ listen: "127.0.0.1:{admin}" }}
store: {{ url: "sqlite:{folder}/llm-router.db" }}
providers:
  - {{ id: openai, type: openai, base_url: "http://127.0.0.1:{mock}/v1", api_key: theirs, forward_headers: ["x-mock-*", "x-sdk"] }}
  - {{ id: anthropic, type: anthropic, base_url: "http://127.0.0.1:{mock}", api_key: theirs, forward_headers: ["x-mock-*", "x-sdk"] }}
  - {{ id: gemini, type: gemini, base_url: "http://127.0.0.1:{mock}/v1beta", api_key: theirs, forward_headers: ["x-mock-*", "x-sdk"] }}
keys:
  - {{ name: sdk, key: "${{SDK_KEY}}", role: user, owner: tests }}
"""
SEA = "Tell me about the sea."


class Place:
    """A mock, the recorder before it, and a router before that."""

    def __init__(self, folder):
        self.mock_port = free_port()
        binary = os.environ.get("LLM_ROUTER", ROOT / "target/debug/llm-router")
        self.mock = subprocess.Popen(
            [binary, "mock", "--listen", f"127.0.0.1:{self.mock_port}"], stderr=subprocess.DEVNULL
        )
        self.recorder = Recorder(self.mock_port)
        self.router = Router(folder, CONFIG, mock=self.recorder.port)

    def open_streams(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.mock_port}/mock/meter") as page:
            return json.load(page)["open_streams"]

    def stop(self):
        self.router.stop()
        self.recorder.stop()
        self.mock.terminate()
        self.mock.wait(20)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("pairs"))
    yield place
    place.stop()


class Pair:
    def __init__(self, place, client, provider):
        self.place, self.provider = place, provider
        self.client = client(place.router.url, KEY)
        self.model = f"{provider}/{PROVIDERS[provider]}"
        self.dropped = set()

    def ask(self, talk, **more):
        answer = self.client.ask(self.model, talk, **more)
        names = answer.headers.get("x-llm-router-dropped")
        self.dropped |= set(names.split(", ")) if names else set()
        return answer

    def finished(self, answer, how):
        assert answer.finish == self.client.finishes[how], answer
        assert min(answer.usage) > 0, answer


def plain(pair):
    answer = pair.ask(pair.client.user(SEA))
    pair.finished(answer, "end")
    assert len(answer.text) > 20


def stream(pair):
    whole, streamed = (pair.ask(pair.client.user(SEA), stream=s) for s in (False, True))
    pair.finished(streamed, "end")
    assert streamed.text == whole.text and streamed.usage == whole.usage
    split = pair.ask(pair.client.user(SEA), stream=True, **{"x-mock-split": "5"})
    assert split.text == whole.text


def single_tool(pair):
    for streamed in (False, True):
        answer = pair.ask(pair.client.user(SEA), tools="required", stream=streamed)
        pair.finished(answer, "tools")
        [(id, name, arguments)] = answer.calls
        assert id and name == TOOL and isinstance(arguments["city"], str)


def parallel_tools(pair):
    for streamed in (False, True):
        control = {"x-mock-tools": "3"}
        answer = pair.ask(pair.client.user(SEA), tools="auto", stream=streamed, **control)
        pair.finished(answer, "tools")
        assert len(answer.calls) == len({id for id, *_ in answer.calls}) == 3


def tool_result(pair):
    for streamed in (False, True):
        talk = pair.client.user(SEA)
        answer = pair.ask(talk, tools="auto", stream=streamed, **{"x-mock-tools": "2"})
        talk = talk + answer.turn + pair.client.results(answer.calls)
        final = pair.ask(talk, tools="auto", stream=streamed)
        pair.finished(final, "end")
        assert final.text and not final.calls


def image(pair):
    answer = pair.ask(pair.client.user(SEA, image=True))
    pair.finished(answer, "end")
    _, body = pair.place.recorder.bodies[-1]
    assert PIXEL in json.dumps(body)


def structured(pair):
    for streamed in (False, True):
        answer = pair.ask(pair.client.user(SEA), schema=True, stream=streamed)
        assert isinstance(json.loads(answer.text)["city"], str)


def thinking(pair):
    for streamed in (False, True):
        talk = pair.client.user(SEA)
        control = {"x-mock-tools": "2"}
        answer = pair.ask(talk, tools="auto", think=True, stream=streamed, **control)
        assert len(answer.calls) == 2
        # OpenAI's chat counts thoughts and never shows them.
        hidden = pair.provider == "openai" and pair.client.name != "OpenAI responses"
        assert bool(answer.thoughts) != hidden, answer
        talk = talk + answer.turn + pair.client.results(answer.calls)
        # The mock refuses thoughts that are not its own, and their absence.
        final = pair.ask(talk, tools="auto", think=True, stream=streamed)
        pair.finished(final, "end")
        assert final.text


def errors(pair):
    sdk = pair.client.errors
    for status, kind in {
        400: sdk.BadRequestError,
        # The provider refused the router's credential, not the client's.
        401: sdk.InternalServerError,
        403: sdk.InternalServerError,
        404: sdk.NotFoundError,
        422: sdk.UnprocessableEntityError,
        429: sdk.RateLimitError,
        500: sdk.InternalServerError,
        529: sdk.InternalServerError,
    }.items():
        for streamed in (False, True):
            with pytest.raises(kind) as caught:
                control = {"x-mock-status": str(status)}
                pair.ask(pair.client.user(SEA), stream=streamed, **control)
            refused = status in (401, 403)
            assert caught.value.status_code == (502 if refused else status)
            said = "refused the router's credential" if refused else "The mock failed"
            assert said in str(caught.value)
    for control in ("x-mock-cut-after", "x-mock-error-after"):
        with pytest.raises((sdk.APIError, RuntimeError)):
            pair.ask(pair.client.user(SEA), stream=True, **{control: "6"})


def cancel(pair):
    control = {"x-mock-token-delay": "500ms", "x-mock-tokens": "2000"}
    response = pair.client.first_text(pair.model, pair.client.user(SEA), **control)
    assert pair.place.open_streams() == 1
    response.close()
    deadline = time.monotonic() + 20
    while pair.place.open_streams():
        assert time.monotonic() < deadline, "the provider's stream was not ended"
        time.sleep(0.05)


FEATURES = {
    "plain": plain,
    "stream": stream,
    "one tool": single_tool,
    "parallel tools": parallel_tools,
    "tool results": tool_result,
    "image": image,
    "structured output": structured,
    "thinking with tools, two turns": thinking,
    "errors": errors,
    "cancel": cancel,
}


def outcome(pair, feature):
    """What the table says: pass, a refusal by name, or what was left out."""
    pair.dropped.clear()
    try:
        FEATURES[feature](pair)
    except pair.client.errors.BadRequestError as refused:
        body = refused.body
        body = body.get("error", body) if isinstance(body, dict) else {}
        if body.get("code") != "unsupported_parameter" and "param" not in str(refused):
            raise
        return f"400: `{body.get('param')}`"
    return " ".join(["pass"] + [f"without `{name}`" for name in sorted(pair.dropped)])


def run_node(place):
    environment = {**os.environ, "URL": place.router.url, "KEY": KEY}
    environment["MOCK"] = f"http://127.0.0.1:{place.mock_port}"
    command = ["node", "pairs.mjs"]
    ran = subprocess.run(command, cwd=NODE, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def table(cells):
    lines = ["| client → provider | " + " | ".join(FEATURES) + " |"]
    lines.append("|---" * (len(FEATURES) + 1) + "|")
    for client in CLIENTS:
        for provider in PROVIDERS:
            pair = (client.name, provider)
            row = []
            for feature in FEATURES:
                found = cells[(*pair, feature)]
                same = len(set(found.values())) == 1
                texts = [f"{sdk}: {text}" for sdk, text in found.items()]
                row.append(next(iter(found.values())) if same else "; ".join(texts))
            lines.append(f"| {client.name} → {provider} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def test_every_pair_and_feature(place):
    cells, failures = collections.defaultdict(dict), []
    for client in CLIENTS:
        for provider in PROVIDERS:
            pair = Pair(place, client, provider)
            for feature in FEATURES:
                try:
                    cell = outcome(pair, feature)
                except Exception as failure:
                    cell = "FAIL"
                    failures.append(f"Python {client.name} {provider} {feature}: {failure!r}")
                cells[(client.name, provider, feature)]["Python"] = cell
    for found in run_node(place):
        key = (found["client"], found["provider"], found["feature"])
        cells[key]["Node"] = found["cell"]
        if found["cell"] == "FAIL":
            failures.append(f"Node {key}: {found['why']}")
    made = table(cells)
    print(made)
    assert not failures, "\n".join(failures)
    assert not place.recorder.complaints, "\n".join(place.recorder.complaints[:5])
    assert all(len(found) == 2 for found in cells.values()), "a cell is blank"
    text = DOCS.read_text()
    before, rest = text.split(BEGIN)
    old, after = rest.split(END)
    if os.environ.get("UPDATE_DOCS"):
        DOCS.write_text(f"{before}{BEGIN}\n{made}\n{END}{after}")
    else:
        assert old.strip() == made, "the table differs: run with UPDATE_DOCS=1"
