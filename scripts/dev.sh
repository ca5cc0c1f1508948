#!/usr/bin/env bash
# Builds LLM Router and runs the demo: mock providers, no keys, no network. Prints a key and curl
# lines to paste; Ctrl-C ends it. Arguments are handed to `llm-router demo`.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/needs.sh
need_to_build
cargo build --locked
exec ./target/debug/llm-router demo "$@"
