#!/usr/bin/env bash
# Installs what the tests need and runs all of them: format, lints, Rust tests, official SDKs.
# Works on a fresh Debian or Ubuntu machine, as root or with sudo; elsewhere it says what to
# install.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/needs.sh
need_to_build
need curl curl
need openssl openssl
need python3 python3
need_python_venv
need_postgres
need redis-server redis-server
need node nodejs
need npm npm
need chromium chromium

step() { printf '\n== %s\n' "$*"; }

step "format"
cargo fmt --all --check

step "lints"
cargo clippy --workspace --all-targets --locked -- -D warnings

step "Rust tests"
cargo test --workspace --locked

step "the built-in prices are those of their sources"
python3 scripts/prices.py --check

step "official SDKs"
venv=target/sdk-venv
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/sdk/requirements.txt
(cd tests/sdk/node && npm install --no-audit --no-fund --loglevel=error)
LLM_ROUTER="$PWD/target/debug/llm-router" "$venv/bin/python" -m pytest -q tests/sdk

step "the API's own description"
api=target/api-venv
[ -x "$api/bin/python" ] || python3 -m venv "$api"
"$api/bin/pip" install --quiet --disable-pip-version-check -r tests/api/requirements.txt
tests/api/check.sh target/debug/llm-router "$api"

step "the dashboard in a browser"
(
    cd tests/ui
    npm install --no-audit --no-fund --loglevel=error
    npx --no-install tsc --allowJs --checkJs --noEmit --strict --target esnext --module esnext \
        --lib esnext,dom,dom.iterable ../../admin/ui/main.js
    export LLM_ROUTER="$OLDPWD/target/debug/llm-router" CHROMIUM="$(command -v chromium)"
    node --test dashboard.test.mjs
)

step "all tests passed"
