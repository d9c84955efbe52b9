"""A small world for tests from outside: mock provider, counting relay, gateway, keys.

    client -> Relay (counts requests on the wire) -> loopers serve -> loopers mock (keeps the invoice)

Everything listens on free loopback ports, lives in one temporary folder, and is ended by process id.
"""

import asyncio
import datetime
import ipaddress
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from decimal import Decimal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ROOT = pathlib.Path(__file__).resolve().parents[3]
# What the gateway's configuration holds as the provider's key, and what a client may bring instead.
CONFIG_PROVIDER_KEY = "sk-test-from-config"
CLIENT_PROVIDER_KEY = "sk-test-from-client"
ADMIN_TOKEN = "admin-token-of-the-sdk-test"
# Models behind deployments of Azure, which are named `my-MODEL`.
AZURE_MODELS = ["gpt-4o-mini", "text-embedding-3-large"]
# Each provider's path on the mock, and what its config needs beyond address and key.
PROVIDERS = {
    "openai": ("", ""),
    "anthropic": ("/anthropic", ""),
    "gemini": ("/gemini", ""),
    "mistral": ("/mistral", ""),
    "bedrock": ("/bedrock", ", region: us-east-1"),
    "azure": ("/azure", f", deployments: {{ {', '.join(f'my-{model}: {model}' for model in AZURE_MODELS)} }}"),
}
START_SECONDS = 30
SETTLE_SECONDS = 30
# Exit code of a test program when no test has the name that was asked for.
NOTHING_RAN = 3


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def http_json(url, method="GET"):
    request = urllib.request.Request(url, method=method, data=b"" if method == "POST" else None)
    with urllib.request.urlopen(request, timeout=10) as answer:
        body = answer.read()
    return json.loads(body) if body else None


def config_text(providers, mock, listen=1, admin=2, folder=".", certificate=None):
    """A gateway's config: ports, and those providers at the mock; HTTPS where there is a certificate."""
    lines = [
        f"listen: 127.0.0.1:{listen}",
        f"admin: {{ listen: 127.0.0.1:{admin}, token: env:LOOPERS_ADMIN_TOKEN }}",
        f"ledger: file:{folder}/loopers.db",
        f"prices: [{ROOT}/conf/prices.yaml]",
        "providers:",
    ]
    for name in providers:
        path, more = PROVIDERS[name]
        lines.append(f'  {name}: {{ base_url: "{mock}{path}", key: env:PROVIDER_API_KEY{more} }}')
    if certificate:
        lines.append(f"tls: {{ cert: {certificate.cert}, key: {certificate.key} }}")
    return "\n".join(lines) + "\n"


def environment():
    return dict(os.environ, PROVIDER_API_KEY=CONFIG_PROVIDER_KEY, LOOPERS_ADMIN_TOKEN=ADMIN_TOKEN)


def is_known(binary, provider):
    """Whether this version of the gateway has that provider; `loopers check` says so."""
    with tempfile.TemporaryDirectory(prefix="loopers-sdk-") as folder:
        config = pathlib.Path(folder, "loopers.yaml")
        config.write_text(config_text([provider], "http://127.0.0.1:9", folder=folder))
        done = subprocess.run(
            [str(pathlib.Path(binary).resolve()), "check", "--config", str(config)], env=environment(),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
        )
    if done.returncode == 0:
        return True
    if f"providers.{provider}: is not a provider of this version" in done.stdout:
        return False
    raise AssertionError(f"loopers check with {provider}: {done.stdout}")


def eventually(what, probe, seconds):
    """Polls `probe` until it returns something true, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


class Certificate:
    """A self-made certificate for 127.0.0.1 and localhost, valid for a day, and its private key, in PEM files of that folder."""

    def __init__(self, folder):
        self.cert, self.key = pathlib.Path(folder, "cert.pem"), pathlib.Path(folder, "key.pem")
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopers test")])
        names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
        now = datetime.datetime.now(datetime.timezone.utc)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        self.cert.write_bytes(made.public_bytes(pem))
        self.key.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))

    def of_server(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        return context

    def of_client(self):
        return ssl.create_default_context(cafile=self.cert)


class Relay:
    """A relay that counts the HTTP/1.1 requests passing towards the gateway, and can be asked for them.

    It passes bytes on unchanged in both directions and counts request lines with its own reading of Content-Length and
    chunked bodies, so what it counts is what was on the wire. With a certificate it speaks TLS on both sides.
    """

    HELD = re.compile(rb"\r\nx-loopers-held-usd: *(\S+)\r\n", re.I)
    REQUEST_LINE = re.compile(rb"^[A-Z]+ \S+ HTTP/1\.1\r\n")

    def __init__(self, target_port, certificate=None):
        self.target_port = target_port
        self.requests = []
        # What the answers said is held, in nano-dollars.
        self.held = []
        self.problems = []
        self._tls_of_client = certificate and certificate.of_client()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        tls = certificate and certificate.of_server()
        starting = asyncio.start_server(self._relay, "127.0.0.1", 0, ssl=tls)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(START_SECONDS)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self):
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_SECONDS)

    async def _relay(self, client_reader, client):
        try:
            gateway_reader, gateway = await asyncio.open_connection("127.0.0.1", self.target_port, ssl=self._tls_of_client)
        except OSError as error:
            self.problems.append(error)
            client.transport.abort()
            return
        await asyncio.gather(
            self._pump(client_reader, gateway, self._counter()),
            self._pump(gateway_reader, client, self._hold_reader()),
        )

    async def _pump(self, source, sink, see):
        """When one side is gone so is the other, at once, or a hang-up would not be seen."""
        try:
            while data := await source.read(65536):
                see(data)
                sink.write(data)
                await sink.drain()
            sink.close()
        except OSError:
            sink.transport.abort()
        except AssertionError as problem:
            self.problems.append(problem)
            sink.transport.abort()

    def _hold_reader(self):
        tail = b""

        def see(data):
            nonlocal tail
            text = tail + data
            found = list(self.HELD.finditer(text))
            self.held.extend(nano(match[1].decode()) for match in found)
            # A header may come in two pieces; one that was counted must not be seen again.
            tail = text[max(found[-1].end() - 2 if found else 0, len(text) - 100) :]

        return see

    def _counter(self):
        pending = bytearray()
        body_left = 0

        def see(data):
            nonlocal body_left
            pending.extend(data)
            while pending:
                if body_left:
                    taken = min(body_left, len(pending))
                    del pending[:taken]
                    body_left -= taken
                    continue
                end = pending.find(b"\r\n\r\n")
                if end < 0:
                    return
                head = bytes(pending[: end + 4])
                if not self.REQUEST_LINE.match(head):
                    raise AssertionError(f"not a request: {head[:80]!r}")
                if re.search(rb"\r\ntransfer-encoding:", head, re.I):
                    raise AssertionError("the relay counts only bodies with a Content-Length")
                self.requests.append(head.split(b"\r\n", 1)[0].decode())
                length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.I)
                body_left = int(length[1]) if length else 0
                del pending[: end + 4]

        return see


class World:
    """Mock, gateway and relay, started together. With `https`, gateway and relay speak TLS with a certificate of their own."""

    def __init__(self, binary, providers=("openai",), https=False):
        self.providers = providers
        self.binary = str(pathlib.Path(binary).resolve())
        self._children = []
        self._folder = tempfile.TemporaryDirectory(prefix="loopers-sdk-")
        self.folder = pathlib.Path(self._folder.name)
        self.config = self.folder / "loopers.yaml"
        self.environment = environment()
        self.certificate = Certificate(self.folder) if https else None
        self._tls = self.certificate and self.certificate.of_client()

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _start(self):
        mock_port, self.gateway_port, self.admin_port = free_port(), free_port(), free_port()
        self.mock = f"http://127.0.0.1:{mock_port}"
        scheme = "https" if self.certificate else "http"
        self.gateway = f"{scheme}://127.0.0.1:{self.gateway_port}"
        self.admin = f"http://127.0.0.1:{self.admin_port}"
        self.config.write_text(
            config_text(self.providers, self.mock, self.gateway_port, self.admin_port, self.folder, self.certificate)
        )
        self._spawn("mock", "mock", "--listen", f"127.0.0.1:{mock_port}")
        eventually("the mock answers", lambda: self._answers(f"{self.mock}/invoice"), START_SECONDS)
        self._spawn("serve", "serve", "--config", str(self.config))
        eventually("the gateway is ready", lambda: self._answers(f"{self.gateway}/readyz"), START_SECONDS)
        self.relay = Relay(self.gateway_port, self.certificate)
        # What clients connect to.
        self.base = f"{scheme}://127.0.0.1:{self.relay.port}"

    def __exit__(self, *_):
        if hasattr(self, "relay"):
            self.relay.close()
        for child in reversed(self._children):
            if child.poll() is None:
                child.send_signal(signal.SIGINT if child.name == "serve" else signal.SIGTERM)
                try:
                    child.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
        try:
            self._assert_no_secrets()
        finally:
            self._folder.cleanup()

    def _assert_no_secrets(self):
        """Nothing that the gateway wrote (log, journal, ledger) holds a proxy key, a provider's key or a secret of its environment."""
        secrets = [CONFIG_PROVIDER_KEY.encode(), ADMIN_TOKEN.encode()]
        for path in self.folder.rglob("*"):
            # The mock logs whole requests on purpose; keys of certificates are the test's own.
            if not path.is_file() or path.name.startswith("mock") or path.suffix in (".pem", ".key"):
                continue
            text = path.read_bytes()
            told = re.search(rb"lp-[0-9A-Za-z]{43}|(?<![0-9A-Za-z_-])sk-[0-9A-Za-z_-]{4,}", text) or next((secret for secret in secrets if secret in text), None)
            if told:
                raise AssertionError(f"{path.name} holds a secret: {told}")

    def _spawn(self, name, *arguments):
        log = open(self.folder / f"{name}.log", "wb")
        child = subprocess.Popen(
            [self.binary, *arguments], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT,
        )
        log.close()
        child.name = name
        self._children.append(child)

    def _answers(self, url):
        for child in self._children:
            if child.poll() is not None:
                raise AssertionError(f"`loopers {child.name}` ended with {child.returncode}:\n{self.log(child.name)}")
        try:
            with urllib.request.urlopen(url, timeout=2, context=self._tls) as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def log(self, name):
        return (self.folder / f"{name}.log").read_text(errors="replace")

    # === The command line ===

    def run(self, *arguments):
        done = subprocess.run(
            [self.binary, *arguments, "--config", str(self.config)], cwd=self.folder, env=self.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60,
        )
        if done.returncode != 0:
            raise AssertionError(f"loopers {' '.join(arguments)}: exit {done.returncode}: {done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def key(self, name, *flags):
        """A new proxy key: `{"id", "key", …}`."""
        return self.run("keys", "create", "--name", name, *flags, "--json")

    def status(self, key):
        """Spent and held of the key this month, in nano-dollars."""
        report = self.run("budget", "status", key["id"], "--json")
        level = next(level for level in report["levels"] if level["level"] == "key")
        month = next(window for window in level["windows"] if window["window"] == "monthly")
        return {"spent": nano(month["spent_usd"]), "held": nano(month["held_usd"]), "report": report}

    def metric(self, name):
        """The sum over all label sets of one metric of the gateway."""
        with urllib.request.urlopen(f"{self.admin}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        values = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)$", text, re.M)
        return sum(Decimal(value) for value in values)

    # === The mock ===

    def invoice(self):
        return http_json(f"{self.mock}/invoice")

    def reset_mock(self):
        http_json(f"{self.mock}/reset", "POST")

    def seen_by_mock(self):
        """Requests that arrived at the mock: method, path, headers, body."""
        return http_json(f"{self.mock}/log")["requests"]

    # === The books ===

    def at_rest(self, key):
        """Waits until no call runs and nothing is held; returns the key's status."""
        eventually("the mock is idle", lambda: self.invoice()["in_flight"] == 0, SETTLE_SECONDS)

        def settled():
            status = self.status(key)
            return status if status["held"] == 0 else None

        return eventually("all holds are settled", settled, SETTLE_SECONDS)

    def assert_books(self, key):
        """At rest, what was charged is the invoice to the nano-dollar; returns it."""
        charged = self.at_rest(key)["spent"]
        invoice = self.invoice()["invoice_nano"]
        if charged != invoice:
            raise AssertionError(f"charged {charged} nano-dollars, the provider's invoice says {invoice}")
        return charged


def nano(usd):
    """A decimal string in USD as nano-dollars, exactly."""
    value = Decimal(usd).scaleb(9)
    if value != value.to_integral_value():
        raise AssertionError(f"{usd} is not a whole number of nano-dollars")
    return int(value)
