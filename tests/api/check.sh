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
free_ports='import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(one.getsockname()[1] for one in held))'
read -r CLIENTS_PORT ADMIN_PORT < <(python3 -c "$free_ports")
export CLIENTS_PORT ADMIN_PORT
SECRET_KEY=0123456789abcdef0123456789abcdef API_KEY_SALT=salt-0123456789abcdef \
  "$router" serve --config router.yaml 2>log &
pid=$!
trap 'kill $pid 2>/dev/null; wait $pid 2>/dev/null; rm -rf "$folder"' EXIT
url=http://127.0.0.1:$CLIENTS_PORT
root=sk-root-0123456789abcdef
ready() { for _ in $(seq 100); do curl -sf "$url/healthz" >/dev/null && return; sleep 0.1; done; cat log; return 1; }
ready

python3 "$here/examples.py" "$url" "$root"

generated() {
  "$venv/bin/schemathesis" run "$url/openapi.json" \
    --header "Authorization: Bearer $1" --seed 1 --workers 2 --no-color "${@:2}"
}
all=(--phases examples,coverage,fuzzing --max-examples 8)
inference='^(/v1|/api/v1/(chat|completions|embeddings|responses|messages|models))'
# What a schema can't say, as that a model, a file or a cursor's item must be there, and what only
# the provider judges, is refused with 400: whether a request that fits the schema is taken is not
# asked.
generated "$root" "${all[@]}" --continue-on-failure --checks all \
  --exclude-checks positive_data_acceptance,ignored_auth
# That a wrong key is refused is tried in a run of its own: an address that shows many of them is slowed
# down (200 a minute), so they are sent one at a time and not too fast.
generated "$root" --phases examples,fuzzing --max-examples 1 --checks ignored_auth \
  --workers 1 --rate-limit 3/s
generated sk-look-0123456789abcdef "${all[@]}" --checks not_a_server_error \
  --exclude-path-regex "$inference"
written=$(curl -sf -H "authorization: Bearer $root" "$url/api/v1/audit?actor=looker")
[ "$written" = '{"items":[],"next_cursor":null}' ] || { echo "a viewer wrote: $written"; exit 1; }

if command -v promtool >/dev/null; then
  curl -sf -H "authorization: Bearer $root" "$url/metrics" | promtool check metrics
else
  echo "promtool (Debian package prometheus) is absent: the form of the metrics was NOT checked"
fi
