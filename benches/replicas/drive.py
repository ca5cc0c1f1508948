#!/usr/bin/env python3
"""Drives replicas of the router that share a Redis or a PostgreSQL, and says what limits and budgets let
through.

    drive.py --router target/release/llm-router rpm|tpm|trouble|slow|budget|keys [--seconds 60]

rpm      two replicas, 600 requests a minute, 8 clients as fast as they can
tpm      the same with 60,000 tokens a minute and random token counts
trouble  rpm, while Redis is paused (SIGSTOP), resumed, killed and started again without data
slow     rpm, while each way to Redis takes 200 ms for a third of the time
budget   1,000 requests at once on three replicas with one dollar left, Redis paused midway, resumed;
         with --book postgresql the same with budgets in PostgreSQL and no Redis
keys     two replicas on one PostgreSQL with --keys keys (a million): start-up, memory, lookup, and
         how long until one replica knows what was made and revoked on the other

It needs redis-server in the path or PostgreSQL's programs, and starts everything else itself, on free
ports of 127.0.0.1.
"""
import argparse, collections, glob, hashlib, hmac, http.client, json, os, random, signal, socket
import subprocess, sys, tempfile, threading, time, uuid

KEY = "Bearer sk-driven-0123456789abcdef"
started, folder = [], tempfile.mkdtemp(prefix="drive-")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def spawn(*command, cwd=folder):
    with open(os.path.join(folder, "log"), "a") as log:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, cwd=cwd)
    started.append(process)
    return process


def wait_for(port):
    for _ in range(400):
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nothing listens on {port}")


def redis(port):
    process = spawn("redis-server", "--port", str(port), "--bind", "127.0.0.1",
                    "--save", "", "--appendonly", "no", "--dir", folder)
    wait_for(port)
    return process


class Postgres:
    """A PostgreSQL server that can be paused with all its processes."""

    def __init__(self):
        self.port, self.home = free_port(), tempfile.mkdtemp(dir=folder)
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
        self.bin = found[-1] if found else sys.exit("PostgreSQL isn't installed")
        # It refuses to run as root.
        self.user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] \
            if os.getuid() == 0 else []
        if self.user:
            os.chmod(folder, 0o755)
            subprocess.run(["chown", "postgres", self.home], check=True)
        subprocess.run([*self.user, f"{self.bin}/initdb", "--no-sync", "-A", "trust", "-U", "postgres",
                        "-D", f"{self.home}/data"], check=True, stdout=subprocess.DEVNULL)
        self.process = spawn(*self.user, f"{self.bin}/postgres", "-D", f"{self.home}/data", "-p",
                             str(self.port), "-k", self.home, "-c", "listen_addresses=127.0.0.1")
        wait_for(self.port)
        while subprocess.run([f"{self.bin}/pg_isready", "-q", "-h", "127.0.0.1", "-p",
                              str(self.port)]).returncode:
            time.sleep(0.05)
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def send_signal(self, number):
        found = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True)
        for pid in [self.process.pid, *map(int, found.stdout.split())]:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def ask(self, sql):
        return subprocess.run([f"{self.bin}/psql", "-At", "-c", sql, self.url],
                              capture_output=True, text=True).stdout.strip()

    def copy(self, table, lines):
        """Fills a table with lines in COPY's text format."""
        psql = subprocess.Popen([f"{self.bin}/psql", "-q", "-c", f"COPY {table} FROM STDIN", self.url],
                                stdin=subprocess.PIPE, text=True)
        psql.stdin.writelines(lines)
        psql.stdin.close()
        if psql.wait():
            sys.exit(f"{table} can't be filled")


class Delay:
    """A way to a port that takes `seconds` in each direction."""

    def __init__(self, target):
        self.target, self.seconds, self.port = target, 0, free_port()
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self.pump, args=(one, other), daemon=True).start()

    def pump(self, one, other):
        try:
            while chunk := one.recv(65536):
                time.sleep(self.seconds)
                other.sendall(chunk)
        except OSError:
            pass
        for end in (one, other):
            end.close()


Replica = collections.namedtuple("Replica", "port admin process")


def replica(router, mock, key, redis_port=None, store=None):
    home = tempfile.mkdtemp(dir=folder)
    port, admin = free_port(), free_port()
    provider = {"id": "up", "type": "mock", "base_url": f"http://127.0.0.1:{mock}/v1",
                "timeouts": {"connect": "2s", "first_byte": "8s", "idle": "8s", "total": "10s"}}
    config = {
        "server": {"listen": f"127.0.0.1:{port}"},
        "admin": {"listen": f"127.0.0.1:{admin}", "metrics_public": True},
        "store": {"url": store or f"sqlite:{home}/store.db", "journal": f"{home}/journal"},
        "counters": {"url": f"redis://127.0.0.1:{redis_port}/0" if redis_port else "memory:",
                     "timeout": "50ms"},
        "providers": [provider],
        "models": [{"name": "fast", "deployments": [{"provider": "up", "model": "mock-gpt"}]}],
        "prices": "prices.yaml",
        "keys": [{"name": "driven", "key": KEY.removeprefix("Bearer ")} | key],
    }
    with open(f"{home}/prices.yaml", "w") as prices:
        prices.write("up/mock-gpt:\n  - { from: 2026-01-01, input: 100, output: 500 }\n")
    with open(f"{home}/config.yaml", "w") as file:
        json.dump(config, file)
    process = spawn(router, "serve", "--config", f"{home}/config.yaml", cwd=home)
    wait_for(port)
    return Replica(port, admin, process)


def metric(admin, name):
    connection = http.client.HTTPConnection("127.0.0.1", admin, timeout=5)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    return [line for line in lines if line.startswith(name)]


def ask(connection, headers):
    body = json.dumps({"model": "fast", "max_tokens": 100,
                       "messages": [{"role": "user", "content": "Tell me about the sea."}]})
    headers = {"authorization": KEY, "content-type": "application/json"} | headers
    connection.request("POST", "/v1/chat/completions", body, headers)
    answer = connection.getresponse()
    body = answer.read()
    degraded = answer.getheader("x-llm-router-degraded")
    usage = json.loads(body).get("usage", {}) if answer.status == 200 else {}
    return answer.status, degraded, usage


def saturate(ports, seconds, headers=lambda: {}, clients=8):
    """What became of requests: (when, status, seconds, degraded, tokens)."""
    seen, end, begun = [], time.time() + seconds, time.time()

    def client(port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        while time.time() < end:
            asked = time.time()
            try:
                status, degraded, usage = ask(connection, headers())
            except Exception:
                status, degraded, usage = 0, None, {}
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            took = time.time() - asked
            seen.append((asked - begun, status, took, degraded, usage.get("total_tokens", 0)))
            if status == 429:
                time.sleep(0.01)

    threads = [threading.Thread(target=client, args=(ports[i % len(ports)],)) for i in range(clients)]
    for thread in threads:
        thread.start()
    return threads, seen


def p99(values):
    values = sorted(values)
    return f"{1000 * values[int(0.99 * (len(values) - 1))]:.1f}" if values else "-"


def report(seen, seconds, step=5):
    print(" seconds allowed refused other degraded p99_ms")
    for start in range(0, seconds, step):
        part = [one for one in seen if start <= one[0] < start + step]
        count = collections.Counter(one[1] for one in part)
        other = len(part) - count[200] - count[429]
        degraded = sum(bool(one[3]) for one in part)
        print(f"{start:4}-{start + step:3} {count[200]:7} {count[429]:7} {other:5} {degraded:8} "
              f"{p99([one[2] for one in part]):>6}")


def limits(options, mock):
    port = free_port()
    server, way = redis(port), Delay(port)
    key = {"limits": {"tpm": 60000} if options.mode == "tpm" else {"rpm": 600}}
    replicas = [replica(options.router, mock, key, way.port).port for _ in range(2)]
    time.sleep(2)
    tokens = lambda: {"x-mock-usage": f"input={random.randint(1, 200)},output={random.randint(1, 100)}"}
    threads, seen = saturate(replicas, options.seconds, tokens if options.mode == "tpm" else lambda: {})
    if options.mode == "slow":
        time.sleep(options.seconds / 3)
        way.seconds = 0.2
        time.sleep(options.seconds / 3)
        way.seconds = 0
    if options.mode == "trouble":
        time.sleep(options.seconds / 4)
        server.send_signal(signal.SIGSTOP)
        time.sleep(options.seconds / 4)
        server.send_signal(signal.SIGCONT)
        time.sleep(options.seconds / 6)
        server.kill()
        server.wait()
        time.sleep(options.seconds / 8)
        redis(port)
    for thread in threads:
        thread.join()
    report(seen, options.seconds)
    passed = [one for one in seen if one[1] == 200]
    limit = 600 * options.seconds / 60
    print(f"{options.mode}: {len(passed)} requests passed ({100 * len(passed) / limit:.1f} % of "
          f"{limit:.0f}), {sum(one[4] for one in passed)} tokens, "
          f"{sum(one[1] not in (200, 429) for one in seen)} errors of {len(seen)}")


def redis_ask(port, *words):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        parts = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        connection.sendall(f"*{len(words)}\r\n{parts}".encode())
        return connection.makefile().readline().strip() if words[0] == "ZCARD" else \
            connection.makefile().read(200)


def budget(options, mock):
    port, name = free_port(), {"redis": "Redis", "postgresql": "PostgreSQL"}[options.book]
    if options.book == "redis":
        server, shared = redis(port), {"redis_port": port}
    else:
        server = Postgres()
        shared = {"store": server.url}
    # A request costs 0.052 USD: one dollar is 19 of them.
    key = {"budget": {"usd": 1, "period": "total"}}
    replicas = [replica(options.router, mock, key, **shared) for _ in range(3)]
    time.sleep(4)
    tally, lock = collections.Counter(), threading.Lock()

    def one(at):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", at, timeout=30)
            usage = {"x-mock-usage": "input=20,output=100", "x-mock-delay": "1500ms"}
            status, degraded, _ = ask(connection, usage)
        except Exception as error:
            status, degraded = type(error).__name__, None
        with lock:
            tally[status, degraded] += 1

    def burst(count):
        threads = [threading.Thread(target=one, args=(replicas[i % 3].port,)) for i in range(count)]
        for number, thread in enumerate(threads):
            thread.start()
            if number == options.pause_after and options.pause:
                time.sleep(0.2)
                server.send_signal(signal.SIGSTOP)
        for thread in threads:
            thread.join()

    for pause in (True, False):
        options.pause = pause
        burst(1000)
        passed = sum(count for (status, _), count in tally.items() if status == 200)
        print(f"{f'{name} paused midway' if pause else f'{name} back'}: {dict(tally)}")
        print(f"spent {0.052 * passed:.3f} of 1 USD, overshoot {max(0, 0.052 * passed - 1):.3f} USD")
        if pause:
            server.send_signal(signal.SIGCONT)
            time.sleep(4)
    time.sleep(3)
    held = redis_ask(port, "ZCARD", "{llm-router}:holds:key:driven:total:") \
        if options.book == "redis" else server.ask("SELECT count(*) FROM budget_holds")
    print(f"held in {name}:", held)
    for one in replicas:
        print(*metric(one.admin, "llm_router_budget_"), sep="\n")


def call(port, method, path, key, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    began = time.monotonic()
    connection.request(method, path, body and json.dumps(body), headers)
    answer = connection.getresponse()
    text = answer.read()
    return answer.status, time.monotonic() - began, text


def stored_keys(count, salt):
    for i in range(count):
        text = f"sk-{i:09}"
        body = {"name": f"key-{i}", "role": "user", "owner": f"team-{i % 100}", "models": ["*"],
                "limits": {"rpm": 600}, "budget": None, "expires_at": None, "enabled": True,
                "prefix": text[:6]}
        sealed = hmac.new(salt.encode(), text.encode(), hashlib.sha256).hexdigest()
        yield "\t".join(("key", str(uuid.UUID(int=i + 1)), f"key-{i}", json.dumps(body), sealed, "1",
                         "2026-01-01", "2026-01-01")) + "\n"


def keys(options, mock):
    server = Postgres()
    os.environ |= {"API_KEY_SALT": "salt-of-the-driver", "ADMIN_API_KEY": "sk-admin-0123456789"}
    first = replica(options.router, mock, {}, store=server.url)
    first.process.terminate()
    first.process.wait()
    began = time.monotonic()
    server.copy("objects", stored_keys(options.keys, os.environ["API_KEY_SALT"]))
    server.ask("UPDATE configuration SET change_number = 1")
    server.ask("ANALYZE objects")
    print(f"{options.keys} keys put into the store in {time.monotonic() - began:.1f} s")
    replicas = []
    for name in ("A", "B"):
        began = time.monotonic()
        replicas.append(replica(options.router, mock, {}, store=server.url))
        print(f"{name}: serves after {time.monotonic() - began:.1f} s, {memory(replicas[-1])}")
    a, b = replicas
    for name, one in (("A", a), ("B", b)):
        took = [call(one.port, "GET", "/v1/models", f"sk-{i * options.keys // 1000:09}")[:2]
                for i in range(1000)]
        times = sorted(seconds for _, seconds in took)
        print(f"{name}: GET /v1/models with 1000 different keys: {collections.Counter(s for s, _ in took)},"
              f" median {1e3 * times[500]:.2f} ms, p99 {1e3 * times[990]:.2f} ms")
    took = sorted(call(a.port, "GET", "/v1/models", f"sk-no-{i}")[1] for i in range(15))
    print(f"A: 15 unknown keys: median {1e3 * took[7]:.2f} ms")
    admin = os.environ["ADMIN_API_KEY"]
    made, revoked = [], []
    for i in range(10):
        status, _, text = call(a.port, "POST", "/api/v1/keys", admin, {"name": f"made-{i}"})
        key, began = json.loads(text), time.monotonic()
        made.append(seconds_until(b.port, key["key"], True, began))
        began = time.monotonic()
        call(a.port, "DELETE", f"/api/v1/keys/{key['id']}", admin)
        revoked.append(seconds_until(b.port, key["key"], False, began))
    for what, times in (("made on A, works on B after the answer", made),
                        ("revoked on A, refused on B after it was asked", revoked)):
        print(f"{what}: median {1e3 * sorted(times)[5]:.0f} ms, at most {1e3 * max(times):.0f} ms")
    print(*(f"{name}: {memory(one)}" for name, one in (("A", a), ("B", b))), sep="; ")


def seconds_until(port, key, works, began):
    # Refused is 401, or 429 where an address has shown many keys that don't work.
    while (call(port, "GET", "/v1/models", key)[0] == 200) != works:
        if time.monotonic() - began > 60:
            sys.exit("still not so after a minute")
    return time.monotonic() - began


def memory(one):
    with open(f"/proc/{one.process.pid}/status") as status:
        found = {line.split(":")[0]: int(line.split()[1]) // 1024 for line in status if line.startswith("Vm")}
    return f"{found['VmRSS']} MiB (at most {found['VmHWM']})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("mode", choices=["rpm", "tpm", "trouble", "slow", "budget", "keys"])
    parser.add_argument("--router", required=True, type=os.path.abspath)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--book", choices=["redis", "postgresql"], default="redis",
                        help="where replicas share budgets (budget)")
    parser.add_argument("--keys", type=int, default=1_000_000, help="how many (keys)")
    parser.add_argument("--pause-after", type=int, default=9, metavar="REQUESTS",
                        help="of 1,000 (budget): with 9, half of the dollar is held by then")
    options = parser.parse_args()
    mock = free_port()
    spawn(options.router, "mock", "--listen", f"127.0.0.1:{mock}")
    wait_for(mock)
    try:
        {"budget": budget, "keys": keys}.get(options.mode, limits)(options, mock)
    finally:
        for process in started:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in started:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


main()
