#!/usr/bin/env python3
"""Drives replicas of the router that share one Redis, and says what limits and budgets let through.

    drive.py --router target/release/llm-router rpm|tpm|trouble|slow|budget [--seconds 60]

rpm      two replicas, 600 requests a minute, 8 clients as fast as they can
tpm      the same with 60,000 tokens a minute and random token counts
trouble  rpm, while Redis is paused (SIGSTOP), resumed, killed and started again without data
slow     rpm, while each way to Redis takes 200 ms for a third of the time
budget   1,000 requests at once on three replicas with one dollar left, Redis paused midway, resumed;
         with --book postgresql the same with budgets in PostgreSQL and no Redis

It needs redis-server in the path or PostgreSQL's programs, and starts everything else itself, on free
ports of 127.0.0.1.
"""
import argparse, collections, glob, http.client, json, os, random, signal, socket, subprocess, sys
import tempfile, threading, time

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
    spawn(router, "serve", "--config", f"{home}/config.yaml", cwd=home)
    wait_for(port)
    return port, admin


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
    replicas = [replica(options.router, mock, key, way.port)[0] for _ in range(2)]
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
          f"{limit:.0f}, the burst is 60), {sum(one[4] for one in passed)} tokens, "
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
        threads = [threading.Thread(target=one, args=(replicas[i % 3][0],)) for i in range(count)]
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
    for _, admin in replicas:
        print(*metric(admin, "llm_router_budget_"), sep="\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("mode", choices=["rpm", "tpm", "trouble", "slow", "budget"])
    parser.add_argument("--router", required=True, type=os.path.abspath)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--book", choices=["redis", "postgresql"], default="redis",
                        help="where replicas share budgets (budget)")
    parser.add_argument("--pause-after", type=int, default=9, metavar="REQUESTS",
                        help="of 1,000 (budget): with 9, half of the dollar is held by then")
    options = parser.parse_args()
    mock = free_port()
    spawn(options.router, "mock", "--listen", f"127.0.0.1:{mock}")
    wait_for(mock)
    try:
        budget(options, mock) if options.mode == "budget" else limits(options, mock)
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
