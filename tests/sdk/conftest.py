"""A router with the built-in mock provider behind it, started once for all SDK tests."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import time
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
KEY = "sk-sdk-tests-0123456789abcdef"
CONFIG = """
server: {{ listen: "127.0.0.1:{port}" }}
admin: {{ listen: "127.0.0.1:{admin}" }}
store: {{ url: "sqlite:{folder}/llm-router.db" }}
providers:
  - {{ id: mock, type: mock, models: ["mock-gpt", "mock-claude", "mock-embed", "*"] }}
models:
  - {{ name: fast, deployments: [ {{ provider: mock, model: mock-gpt }} ] }}
keys:
  - {{ name: sdk, key: "${{SDK_KEY}}", role: user, owner: tests }}
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Router:
    def __init__(self, folder, config=CONFIG, **ports):
        self.binary = os.environ.get("LLM_ROUTER", ROOT / "target/debug/llm-router")
        self.port, admin = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.key = KEY
        file = folder / "llm-router.yaml"
        file.write_text(config.format(port=self.port, admin=admin, folder=folder, **ports))
        self.log = folder / "log"
        self.process = subprocess.Popen(
            [self.binary, "serve", "--config", file],
            env={**os.environ, "SDK_KEY": KEY},
            cwd=folder,
            stderr=self.log.open("w"),
        )
        self.wait()

    def wait(self):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                pytest.fail(f"the router ended at start:\n{self.log.read_text()}")
            try:
                urllib.request.urlopen(f"{self.url}/readyz", timeout=1).read()
                return
            except OSError:
                time.sleep(0.05)
        pytest.fail(f"the router was not ready in time:\n{self.log.read_text()}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(40) == 0, self.log.read_text()[-2000:]
        log = self.log.read_text()
        panics = [line for line in log.splitlines() if "panicked" in line]
        assert not panics, panics
        assert not re.search(re.escape(KEY), log), "a key is in the log"


@pytest.fixture(scope="session")
def router(tmp_path_factory):
    router = Router(tmp_path_factory.mktemp("router"))
    yield router
    router.stop()
