#!/usr/bin/env bash
# Holds the running router to the description of its own API: every example as it stands, generated
# requests with an admin's key and with a viewer's, and the form of its metrics.
# Usage: check.sh LLM_ROUTER VENV
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
router=$(realpath "$1")
venv=$(realpath "$2")
folder=$(mktemp -d)
cp "$here/router.yaml" "$folder/"
cd "$folder"
SECRET_KEY=0123456789abcdef0123456789abcdef "$router" serve --config router.yaml 2>log &
pid=$!
trap 'kill $pid 2>/dev/null; wait $pid 2>/dev/null; rm -rf "$folder"' EXIT
url=http://127.0.0.1:18000
root=sk-root-0123456789abcdef
for _ in $(seq 100); do curl -sf "$url/healthz" >/dev/null && break; sleep 0.1; done

python3 "$here/examples.py" "$url" "$root"

# What a schema can't say, as that a model must be there, is refused with 400: whether a request
# that fits the schema is taken is not asked.
# Whether a wrong key is refused is left to the table of roles in tests/it: here so many of them come
# that the address is slowed down.
generated() {
  "$venv/bin/schemathesis" run "$url/openapi.json" --header "Authorization: Bearer $1" \
    --phases examples,coverage,fuzzing --max-examples 8 --seed 1 --workers 2 --no-color "${@:2}"
}
generated "$root" --continue-on-failure --checks all --exclude-checks positive_data_acceptance,ignored_auth
generated sk-look-0123456789abcdef --checks not_a_server_error \
  --exclude-path-regex '^(/v1|/api/v1/(chat|completions|embeddings|responses|messages|models))'
written=$(curl -sf -H "authorization: Bearer $root" "$url/api/v1/audit?actor=looker")
[ "$written" = '{"items":[],"next_cursor":null}' ] || { echo "a viewer wrote: $written"; exit 1; }

if command -v promtool >/dev/null; then
  curl -sf -H "authorization: Bearer $root" "$url/metrics" | promtool check metrics
else
  echo "promtool (Debian package prometheus) is absent: the form of the metrics was NOT checked"
fi
