#!/usr/bin/env python3
"""Measures Loopers against floors that check nothing, on one machine, in one run. Standard library only.

For each of direct, nginx, plain Pingora, Loopers redis: and Loopers file: wrk sends small chat calls (not streamed) over
64 connections for a few seconds; the targets take turns, round after round. CPU is utime + stime of the process that is
measured, from /proc, divided by the requests that wrk counted. Then ledger pairs (reserve + settle) a second, without HTTP.
"""

import argparse
import json
import os
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from decimal import Decimal

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
TICK = os.sysconf("SC_CLK_TCK")
PROVIDER_KEY = "sk-test-bench"
BODY = {
    "model": "gpt-4o-mini",
    "messages": [
        {"role": "system", "content": "You are a terse assistant."},
        {"role": "user", "content": "Name three rivers of Europe and the countries they run through. [[mock tokens=50]]"},
    ],
    "max_tokens": 64,
}


def say(text):
    print(text, file=sys.stderr, flush=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Children:
    """The processes that this run started; only they are ended."""

    def __init__(self, folder):
        self.folder = folder
        self.started = []

    def start(self, name, *command, **environment):
        with open(self.folder / f"{name}.log", "wb") as log:
            child = subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                cwd=self.folder, env=dict(os.environ, LOOPERS_LOG="warn", **environment),
            )
        child.name = name
        self.started.append(child)
        return child

    def wait_for(self, child, probe, seconds=30):
        deadline = time.monotonic() + seconds
        while not probe():
            if child.poll() is not None or time.monotonic() > deadline:
                log = (self.folder / f"{child.name}.log").read_text(errors="replace")
                sys.exit(f"{child.name} did not come up (exit {child.poll()}):\n{log[-3000:]}")
            time.sleep(0.05)

    def stop(self):
        for child in reversed(self.started):
            if child.poll() is None:
                child.send_signal(signal.SIGINT)
        for child in reversed(self.started):
            try:
                child.wait(timeout=10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def is_open(port):
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def cpu_seconds(pid):
    """utime + stime of a process with all its threads, and of its children that still live."""
    total = 0
    for one in [pid, *children_of(pid)]:
        fields = pathlib.Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def children_of(pid):
    return [int(child) for task in pathlib.Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()]


class Target:
    """Something that wrk is pointed at. `process` is what CPU is read of."""

    def __init__(self, name, port, path, authorization, process, key=None):
        self.name, self.port, self.path, self.authorization = name, port, path, authorization
        self.process, self.key = process, key
        self.runs = []
        self.invoiced_nano = 0


class Bench:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.binaries = pathlib.Path(options.target).resolve()
        self.loopers = self.binaries / "loopers"
        self.children = Children(folder)
        self.threads = os.cpu_count()
        self.environment = {"OPENAI_API_KEY": PROVIDER_KEY, "LOOPERS_ADMIN_TOKEN": "token-of-the-bench"}

    # === What runs ===

    def start(self):
        self.mock_port = free_port()
        self.mock = self.children.start("mock", self.loopers, "mock", "--listen", f"127.0.0.1:{self.mock_port}")
        self.children.wait_for(self.mock, lambda: answers(f"http://127.0.0.1:{self.mock_port}/invoice"))
        self.redis_url = self.start_redis()
        plain = "/v1/chat/completions", f"Bearer {PROVIDER_KEY}"
        self.targets = [
            Target("direct", self.mock_port, *plain, None),
            Target("nginx", *self.start_nginx(plain)),
            Target("plain Pingora", *self.start_plain(plain)),
            self.start_loopers("redis", self.redis_url),
            self.start_loopers("file", f"file:{self.folder}/loopers.db"),
        ]

    def start_redis(self):
        port = free_port()
        # A persistence that a careful operator would run: append-only file, synced every second.
        self.redis = self.children.start(
            "redis", "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes",
            "--appendfsync", "everysec", "--dir", self.folder, "--maxmemory-policy", "noeviction",
        )
        self.children.wait_for(self.redis, lambda: is_open(port))
        return f"redis://127.0.0.1:{port}"

    def start_nginx(self, plain):
        port = free_port()
        text = (HERE / "nginx.conf").read_text()
        values = {"user": "user root;" if os.geteuid() == 0 else "", "threads": self.threads, "folder": self.folder,
                  "mock_port": self.mock_port, "port": port}
        for name, value in values.items():
            text = text.replace(f"@{name}@", str(value))
        path = self.folder / "nginx.conf"
        path.write_text(text)
        process = self.children.start("nginx", "nginx", "-p", self.folder, "-c", path, "-e",
                                      self.folder / "nginx-start.log", "-g", "daemon off;")
        self.children.wait_for(process, lambda: is_open(port))
        return port, *plain, process

    def start_plain(self, plain):
        port = free_port()
        process = self.children.start("plain", self.binaries / "examples" / "plain_proxy", f"127.0.0.1:{port}",
                                      f"127.0.0.1:{self.mock_port}", self.threads)
        self.children.wait_for(process, lambda: is_open(port))
        return port, *plain, process

    def start_loopers(self, name, ledger):
        port, admin_port = free_port(), free_port()
        config = self.folder / f"{name}.yaml"
        config.write_text(
            f"listen: 127.0.0.1:{port}\n"
            f"admin: {{ listen: 127.0.0.1:{admin_port}, token: env:LOOPERS_ADMIN_TOKEN }}\n"
            f"ledger: {ledger}\n"
            f"prices: [{ROOT}/conf/prices.yaml]\n"
            f'providers:\n  openai: {{ base_url: "http://127.0.0.1:{self.mock_port}", key: env:OPENAI_API_KEY }}\n'
        )
        process = self.children.start(f"loopers-{name}", self.loopers, "serve", "--config", config, **self.environment)
        self.children.wait_for(process, lambda: answers(f"http://127.0.0.1:{port}/readyz"))
        key = self.command(config, "keys", "create", "--name", "bench", "--hourly", "1000000", "--daily", "2000000",
                           "--monthly", "9000000", "--json")
        key["config"] = config
        return Target(f"Loopers {name}:", port, "/openai/v1/chat/completions", f"Bearer {key['key']}", process, key)

    def command(self, config, *arguments):
        done = subprocess.run([self.loopers, *arguments, "--config", config], cwd=self.folder, text=True,
                              env=dict(os.environ, **self.environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        if done.returncode != 0:
            sys.exit(f"loopers {' '.join(arguments)}: exit {done.returncode}")
        return json.loads(done.stdout)

    # === Measuring ===

    def wrk(self, target, seconds):
        command = ["wrk", "-t1", f"-c{self.options.connections}", f"-d{seconds}s", "--timeout", "10s", "-s", HERE / "chat.lua",
                   f"http://127.0.0.1:{target.port}", "--", target.path, target.authorization, json.dumps(BODY)]
        done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        match = re.search(r"RESULT (.*)", done.stdout)
        if done.returncode != 0 or not match:
            sys.exit(f"wrk failed against {target.name}: {done.stdout}")
        return json.loads(match[1])

    def measure(self, target):
        # Warm up, and leave what the warm-up started to end before the clocks are read.
        self.wrk(target, 1)
        time.sleep(0.3)
        watched = {"mock": self.mock.pid, "redis": self.redis.pid}
        if target.process:
            watched["gateway"] = target.process.pid
        before = {name: cpu_seconds(pid) for name, pid in watched.items()}
        run = self.wrk(target, self.options.seconds)
        # What is still to be settled belongs to the run.
        time.sleep(0.3)
        for name, pid in watched.items():
            run[f"{name}_us"] = (cpu_seconds(pid) - before[name]) * 1e6 / run["requests"]
        run["rate"] = run["requests"] / run["seconds"]
        if run["bad_status"]:
            sys.exit(f"{target.name}: {run['bad_status']} answers with a bad status")
        if run["broken"]:
            return False
        target.runs.append(run)
        return True

    def rounds(self):
        for number in range(1, self.options.rounds + 1):
            for target in self.targets:
                self.one_round(target)
                run = target.runs[-1]
                cpu = f", {run['gateway_us']:.1f} us CPU" if "gateway_us" in run else ""
                say(f"round {number}: {target.name} {run['rate']:.0f} requests/s{cpu}")

    def one_round(self, target):
        """A round in which calls broke (a machine that stood still for seconds) does not count; it is repeated, twice at most."""
        for _ in range(3):
            self.reset_mock()
            good = self.measure(target)
            if target.key:
                target.invoiced_nano += self.idle_invoice()
            if good:
                return
            say(f"{target.name}: calls broke; the round is repeated")
        sys.exit(f"{target.name}: calls broke in three rounds in a row")

    def mock_call(self, path, method="GET"):
        request = urllib.request.Request(f"http://127.0.0.1:{self.mock_port}{path}", method=method,
                                         data=b"" if method == "POST" else None)
        with urllib.request.urlopen(request, timeout=10) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    def reset_mock(self):
        self.mock_call("/reset", "POST")

    def idle_invoice(self):
        for _ in range(200):
            invoice = self.mock_call("/invoice")
            if invoice["in_flight"] == 0:
                return invoice["invoice_nano"]
            time.sleep(0.05)
        sys.exit("the mock is still generating after 10 s")

    def ledger_pairs(self):
        found = {}
        for name, url in (("redis:", self.redis_url), ("file:", f"file:{self.folder}/pairs.db")):
            for concurrency in (1, 64):
                pairs = self.options.pairs if concurrency > 1 else max(self.options.pairs // 20, 100)
                done = subprocess.run(
                    [self.binaries / "examples" / "ledger_bench", url, str(pairs), str(concurrency)], cwd=self.folder,
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=60,
                )
                if done.returncode != 0:
                    sys.exit(f"ledger_bench {name} failed: {done.stdout}")
                found[name, concurrency] = int(re.search(r"^pairs/s +(\d+)$", done.stdout, re.M)[1])
        return found

    # === Reporting ===

    def report(self):
        plain = next(target for target in self.targets if target.name == "plain Pingora")
        floor = statistics.median(run["gateway_us"] for run in plain.runs)
        print(f"\nc={self.options.connections}, {self.options.rounds} rounds of {self.options.seconds} s, "
              f"{self.threads} CPUs shared by wrk, proxy, ledger and mock; POST {len(json.dumps(BODY))} B, not streamed")
        print("requests/s, p50, p99: of the run with the most requests/s; CPU: median of the rounds (least to most)\n")
        print("| target | requests/s | p50 ms | p99 ms | gateway CPU us/request | of plain Pingora | Redis CPU us | mock CPU us |")
        print("|---|---:|---:|---:|---:|---:|---:|---:|")
        for target in self.targets:
            best = max(target.runs, key=lambda run: run["rate"])
            cpu, ratio, redis = "-", "-", "-"
            if target.process:
                all_cpu = [run["gateway_us"] for run in target.runs]
                cpu = f"{statistics.median(all_cpu):.1f} ({min(all_cpu):.1f}-{max(all_cpu):.1f})"
                ratio = f"{statistics.median(all_cpu) / floor:.2f}"
            if target.name == "Loopers redis:":
                redis = f"{statistics.median(run['redis_us'] for run in target.runs):.1f}"
            mock = statistics.median(run["mock_us"] for run in target.runs)
            print(f"| {target.name} | {best['rate']:.0f} | {best['p50_us'] / 1000:.2f} | {best['p99_us'] / 1000:.2f} "
                  f"| {cpu} | {ratio} | {redis} | {mock:.1f} |")
        print()

    def books(self):
        """The measured calls are real ones: what they were charged is what the mock billed."""
        exact = True
        for target in self.targets:
            if not target.key:
                continue
            for _ in range(100):
                report = self.command(target.key["config"], "budget", "status", target.key["id"], "--json")
                level = next(level for level in report["levels"] if level["level"] == "key")
                month = next(window for window in level["windows"] if window["window"] == "monthly")
                if Decimal(month["held_usd"]) == 0:
                    break
                time.sleep(0.1)
            charged = int(Decimal(month["spent_usd"]).scaleb(9))
            held = month["held_usd"]
            same = charged == target.invoiced_nano and Decimal(held) == 0
            exact &= same
            print(f"books, {target.name} provider invoice {target.invoiced_nano}, charged {charged} nano-dollars, held {held}"
                  f"{'' if same else '  <-- NOT EQUAL'}")
        return exact


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default="target/release", help="folder of the release binaries")
    parser.add_argument("--seconds", type=int, default=4, help="of one run (default 4)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each target (default 3)")
    parser.add_argument("--connections", type=int, default=64, help="of wrk (default 64)")
    parser.add_argument("--pairs", type=int, default=60000, help="reserve + settle pairs of the ledger runs (default 60000)")
    options = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="loopers-bench-") as folder:
        bench = Bench(options, pathlib.Path(folder))
        try:
            bench.start()
            bench.rounds()
            bench.report()
            exact = bench.books()
            print()
            print("| ledger pairs a second (reserve + settle) | 1 at a time | 64 at a time |\n|---|---:|---:|")
            pairs = bench.ledger_pairs()
            for name in ("redis:", "file:"):
                print(f"| {name} | {pairs[name, 1]} | {pairs[name, 64]} |")
        finally:
            bench.children.stop()
    say(f"took {time.monotonic() - start:.0f} s")
    if not exact:
        sys.exit("the books are not exact")


if __name__ == "__main__":
    main()
