#!/usr/bin/env bash
# The cost API over many generated entries: fills an empty store, starts a router on it, asks each
# endpoint and prints the median and p99 of the time that the answers took.
#
#   benches/cost/figures.sh ROUTER COUNT [sqlite|postgres]
#
# Everything is in a temporary folder (TMPDIR), 600 bytes for each entry, which is deleted
# afterwards. For PostgreSQL a server of its own is started, as user postgres where this is root.
set -euo pipefail
router=$(realpath "$1") count=$2 database=${3:-sqlite} here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d) started=()
cleanup() {
  for process in "${started[@]}"; do kill "$process" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$folder"
}
trap cleanup EXIT
chmod 755 "$folder"
port=$((20000 + RANDOM % 10000)) key=sk-figures-0123456789
as_postgres() {
  if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --init-groups "$@"; else "$@"; fi
}
if [ "$database" = postgres ]; then
  bin=$(dirname "$(ls /usr/lib/postgresql/*/bin/postgres | tail -1)")
  mkdir "$folder/pg"; [ "$(id -u)" != 0 ] || chown postgres "$folder/pg"
  as_postgres "$bin/initdb" --no-sync --no-locale -E UTF8 -A trust -U postgres -D "$folder/pg" >/dev/null
  as_postgres "$bin/postgres" -D "$folder/pg" -p $((port + 3)) -k "$folder/pg" -c fsync=off \
    -c shared_buffers=512MB -c max_wal_size=512MB -c listen_addresses=127.0.0.1 2>/dev/null &
  started+=($!)
  until "$bin/pg_isready" -q -h 127.0.0.1 -p $((port + 3)); do sleep 0.1; done
  url=postgresql://postgres@127.0.0.1:$((port + 3))/postgres
else
  url=sqlite:$folder/ledger.db
fi
cat > "$folder/config.yaml" <<YAML
server: { listen: 127.0.0.1:$port }
admin: { listen: 127.0.0.1:$((port + 1)) }
store: { url: "$url", journal: "$folder/journal" }
providers: [ { id: none, type: mock } ]
keys: [ { name: figures, key: $key, role: admin } ]
YAML
cd "$folder"
"$router" migrate --config config.yaml
began=$SECONDS
if [ "$database" = postgres ]; then
  "$bin/psql" -q -v ON_ERROR_STOP=1 -v count="$count" -f "$here/entries.postgres.sql" "$url"
else
  # Before 3.41, SQLite itself has no unhex.
  python3 - "$here/entries.sqlite.sql" "$count" <<'PYTHON'
import sqlite3, sys
connection = sqlite3.connect("ledger.db", isolation_level=None)
connection.create_function("unhex", 1, bytes.fromhex, deterministic=True)
connection.executescript(open(sys.argv[1]).read().replace(":count", sys.argv[2]))
PYTHON
fi
echo "$database: $count entries in $((SECONDS - began)) s, $(du -sh "$folder" | cut -f1)"
"$router" serve --config config.yaml 2> log &
started+=($!)
until curl -sf -o /dev/null "http://127.0.0.1:$((port + 1))/api/v1/cost/current" -H "x-api-key: $key"; do sleep 0.1; done
one=$(printf 'req-%x' $((count / 2)))
for path in cost/current cost/daily "cost/daily?from=2026-01-01&to=2026-12-31" cost/summary \
  cost/by-model "cost/by-model?from=2026-02-14&to=2026-11-13" cost/by-user "cost/by-user?group=end_user" \
  "requests?limit=100" "requests?limit=100&owner=team-3" "requests/$one"; do
  for _ in $(seq 200); do echo "url=http://127.0.0.1:$((port + 1))/api/v1/$path"; echo "output=/dev/null"; done > urls
  curl -sf -K urls -H "x-api-key: $key" -w '%{time_total}\n' | sort -n > times
  awk -v path="$path" '{ t[NR] = $1 * 1000 } END { printf "%-48s median %7.2f ms  p99 %7.2f ms  of %d\n", path, t[int(NR * 0.5)], t[int(NR * 0.99)], NR }' times
done
