"""What the deployment tests share: processes that are ended by id, ports, calls, checks that name what is wrong."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from decimal import Decimal

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
VENV = pathlib.Path(sys.executable).parent
START_SECONDS = 30
PROVIDER_KEY = "sk-test-deploy"
ADMIN_TOKEN = "admin-token-of-the-deploy-test"
OTLP_HEADERS = "authorization=Bearer%20otlp-secret-of-the-deploy-test,x-tenant=loopers"
# What is no key by its looks.
SECRETS = (ADMIN_TOKEN.encode(), b"otlp-secret-of-the-deploy-test")


def check(fine, problem):
    if not fine:
        raise AssertionError(problem)


def load(path):
    return yaml.safe_load((ROOT / path).read_text())


def load_all(text):
    return [document for document in yaml.safe_load_all(text) if document]


def program(name):
    """A program of the virtual environment, or of the machine."""
    found = VENV / name
    path = str(found) if found.exists() else shutil.which(name)
    check(path, f"{name} is missing: run scripts/setup.sh deploy")
    return path


def output_of(*command, text=None, cwd=ROOT, env=None):
    """What a command prints. Fails when it fails, with what it said."""
    given = {"input": text} if text is not None else {"stdin": subprocess.DEVNULL}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=env, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=300, **given)
    check(done.returncode == 0, f"{' '.join(str(part) for part in command)}: exit {done.returncode}\n{done.stdout}")
    return done.stdout


def binary():
    path = pathlib.Path(os.environ.get("LOOPERS_BIN", ROOT / "target/debug/loopers")).resolve()
    check(path.exists(), f"no binary at {path}: set LOOPERS_BIN")
    return path


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_open(port):
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def get(url, timeout=10):
    with urllib.request.urlopen(url, timeout=timeout) as answer:
        return answer.read().decode()


def answers(url):
    try:
        get(url, timeout=2)
        return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def eventually(what, probe, seconds=START_SECONDS):
    deadline = time.monotonic() + seconds
    while not (found := probe()):
        check(time.monotonic() < deadline, f"not within {seconds} s: {what}")
        time.sleep(0.05)
    return found


def secret_in(text):
    """The first secret of these tests in some bytes: a proxy key, a provider's key, or a token that processes were given."""
    key = re.search(rb"lp-[0-9A-Za-z]{43}|(?<![0-9A-Za-z_-])sk-[0-9A-Za-z_-]{4,}", text)
    return key[0] if key else next((secret for secret in SECRETS if secret in text), None)


def check_secrets(folder, may_hold=()):
    """No file below a folder holds a secret, but for the mock's log of whole requests, programs, and files that a test means to have one."""
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_file() or path.name.startswith("mock") or path.name in may_hold:
            continue
        told = secret_in(path.read_bytes())
        check(not told, f"{path.name} holds a secret: {told}")


class Processes:
    """Child processes; only they are ended, the last one first. What they wrote is then searched for secrets."""

    # Files in which a test keeps a secret of its own.
    may_hold = ()

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.children = []

    def __enter__(self):
        return self

    def __exit__(self, problem, *_):
        for child in reversed(self.children):
            if child.poll() is None:
                child.send_signal(signal.SIGCONT)
                child.send_signal(signal.SIGINT)
                try:
                    child.wait(timeout=8)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
        if problem is None:
            check_secrets(self.folder, self.may_hold)

    def start(self, name, *command, ready, cwd=None, stdout=None, **environment):
        """A child whose output goes to NAME.log, or its stdout to a file of its own."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as err, contextlib.ExitStack() as files:
            out = files.enter_context((self.folder / stdout).open("wb")) if stdout else err
            child = subprocess.Popen([str(part) for part in command], cwd=cwd or self.folder, stdin=subprocess.DEVNULL,
                                     stdout=out, stderr=err, env=dict(os.environ, **environment))
        self.children.append(child)

        def up():
            check(child.poll() is None, f"{name} ended with {child.returncode}:\n{log.read_text(errors='replace')[-3000:]}")
            return ready()

        eventually(f"{name} is up", up)
        return child

    def redis(self):
        port = free_port()
        child = self.start("redis", "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", self.folder,
                           "--maxmemory-policy", "noeviction", "--appendonly", "yes", ready=lambda: is_open(port))
        return child, f"redis://127.0.0.1:{port}"

    def mock(self):
        port = free_port()
        self.start("mock", binary(), "mock", "--listen", f"127.0.0.1:{port}",
                   ready=lambda: answers(f"http://127.0.0.1:{port}/invoice"))
        return f"http://127.0.0.1:{port}"


class Gateway:
    """One `loopers serve`, with a config of its own."""

    def __init__(self, processes, mock, ledger, name="gateway", limits=None, **more):
        self.port, self.admin_port, self.processes = free_port(), free_port(), processes
        self.url, self.admin = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.admin_port}"
        self.config = processes.folder / f"{name}.yaml"
        self.calls = processes.folder / f"{name}.calls.jsonl"
        self.config.write_text(yaml.safe_dump({
            "listen": f"127.0.0.1:{self.port}",
            "admin": {"listen": f"127.0.0.1:{self.admin_port}", "token": "env:LOOPERS_ADMIN_TOKEN"},
            "ledger": ledger,
            "prices": [str(ROOT / "conf/prices.yaml")],
            "providers": {"openai": {"base_url": mock, "key": "env:OPENAI_API_KEY"}},
            "limits": limits or {},
            # Nobody listens there: its counters are there all the same.
            "alerts": {"webhooks": {"ops": {"url": "http://127.0.0.1:9/"}}},
            **more,
        }))
        self.process = processes.start(name, binary(), "serve", "--config", self.config, ready=lambda: answers(f"{self.url}/readyz"),
                                       stdout=self.calls.name, OPENAI_API_KEY=PROVIDER_KEY, LOOPERS_ADMIN_TOKEN=ADMIN_TOKEN,
                                       OTLP_HEADERS=OTLP_HEADERS)

    def command(self, *arguments):
        return json.loads(output_of(binary(), *arguments, "--config", self.config, "--json"))

    def key(self, name, *flags):
        return self.command("keys", "create", "--name", name, *flags)["key"]

    def books(self, name):
        """Spent and held of a key this month, in nano-dollars."""
        levels = self.command("budget", "status", name)["levels"]
        windows = next(level for level in levels if level["level"] == "key")["windows"]
        month = next(window for window in windows if window["window"] == "monthly")
        return nano(month["spent_usd"]), nano(month["held_usd"])


def nano(usd):
    return int(Decimal(usd).scaleb(9))


def invoice(mock):
    found = json.loads(get(f"{mock}/invoice"))
    return found["invoice_nano"], found["in_flight"]


def request(key, script, **more):
    """The bytes of a chat call; `script` tells the mock what to do (docs/MOCK.md)."""
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": f"Say something. [[mock {script}]]"}], **more}
    text = json.dumps(body)
    return (f"POST /openai/v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}").encode()


def send(port, key, script, read=True, seconds=30, **more):
    """One call on a connection of its own: `(status, whole answer)`, or with `read=False` the open connection."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=seconds)
    connection.sendall(request(key, script, **more).replace(b"\r\nHost:", b"\r\nConnection: close\r\nHost:", 1))
    if not read:
        return connection
    with connection:
        return answer_of(connection)


def answer_of(connection):
    data = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            data += piece
    found = re.match(rb"HTTP/1\.1 (\d+)", data)
    return int(found[1]) if found else 0, data.decode(errors="replace")
