"""Runs the tests of the Node SDKs against the same router."""

import os
import pathlib
import subprocess

NODE = pathlib.Path(__file__).parent / "node"


def test_node_sdks(router):
    environment = {**os.environ, "URL": router.url, "KEY": router.key}
    command = ["node", "--test", "sdk.test.mjs"]
    ran = subprocess.run(command, cwd=NODE, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
