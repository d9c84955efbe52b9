"""What a real gateway tells of its calls: each one a line of the call log that its schema admits, and spans and metrics by OTLP."""

import contextlib
import json
import signal
import socket
import tempfile
import urllib.error
import urllib.request

import jsonschema

from common import Gateway, Processes, PROVIDER_KEY, ROOT, check, eventually, free_port, get, invoice, nano, send

SCHEMA = ROOT / "docs/call-log.schema.json"
# Stands in every prompt, and the mock's words in every answer: neither may be told.
PROMPT = "zanzibar-prompt-marker"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SESSION = "run-7:a"


def providers(mock):
    """All six APIs at the mock, and one provider that nobody serves."""
    key = "env:OPENAI_API_KEY"
    found = {name: {"base_url": f"{mock}/{name}", "key": key} for name in ("anthropic", "gemini", "mistral")}
    found["openai"] = {"base_url": mock, "key": key}
    found["azure"] = {"base_url": f"{mock}/azure", "key": key, "deployments": {"d": "gpt-4o-mini"}}
    found["bedrock"] = {"base_url": f"{mock}/bedrock", "key": key, "region": "us-east-1"}
    found["dead"] = {"api": "openai", "base_url": f"http://127.0.0.1:{free_port()}", "key": key}
    return found


def prices(folder):
    """A price for the provider that nobody serves."""
    file = folder / "prices.yaml"
    file.write_text(json.dumps({"dead/m": {
        "input": "1", "output": "2", "context_window": 1000, "max_output": 100, "source": "a test"}}))
    return [str(ROOT / "conf/prices.yaml"), str(file)]


def text(script):
    return f"{PROMPT} [[mock {script}]]"


def chat(script, model="gpt-4o-mini", **more):
    return {"model": model, "messages": [{"role": "user", "content": text(script)}], **more}


def ask(url, key, body, headers=None, method=None):
    """One call: its status, once its answer is read."""
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=raw, method=method, headers={
        "authorization": f"Bearer {key}", "content-type": "application/json", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()
            return answer.status
    except urllib.error.HTTPError as error:
        error.read()
        return error.code
    except (ConnectionError, TimeoutError, urllib.error.URLError):
        return None


class Calls:
    """The call log of a gateway, read as it grows."""

    def __init__(self, gateway):
        self.file, self.seen = gateway.calls, 0
        self.schema = jsonschema.Draft202012Validator(
            json.loads(SCHEMA.read_text()), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)

    def all(self):
        return [self.line(text) for text in self.file.read_text().splitlines()]

    def line(self, text):
        call = json.loads(text)
        problems = [f"{problem.json_path}: {problem.message}" for problem in self.schema.iter_errors(call)]
        check(not problems, f"not as {SCHEMA.name} says: {problems}\n{text}")
        return call

    def next(self, what, expected):
        """The one line of the call that has just ended, which has at least these fields."""
        lines = eventually(f"a line of: {what}", lambda: self.whole(self.seen + 1))
        check(len(lines) == self.seen + 1, f"{what}: more than one line: {lines[self.seen:]}")
        call = self.line(lines[self.seen])
        self.seen += 1
        for name, value in expected.items():
            check(call[name] == value, f"{what}: {name} is {call[name]!r}, not {value!r}: {call}")
        return call

    def whole(self, count):
        text = self.file.read_text()
        lines = text.splitlines()
        return lines if len(lines) >= count and text.endswith("\n") else None


def good_calls(gateway, key):
    """(what, how it is made, what its line must say): every API, streamed and not."""
    url = gateway.url
    yield "chat", lambda: ask(f"{url}/openai/v1/chat/completions", key, chat("tokens=9;prompt=100;cached=60"), {
        "x-loopers-session-id": SESSION, "traceparent": f"00-{TRACE}-{PARENT}-01"}), {
        "provider": "openai", "route": "chat_completions", "model": "gpt-4o-mini", "requested_model": "gpt-4o-mini", "session_id": SESSION,
        "trace_id": TRACE, "stream": False, "tokens": {"input": 100, "cached_input": 60, "cache_write_input": 0, "output": 9, "reasoning_output": 0}}
    yield "stream", lambda: ask(f"{url}/openai/v1/chat/completions", key, chat("tokens=9;rate=90", stream=True)), {"stream": True, "session_id": None}
    yield "responses", lambda: ask(f"{url}/openai/v1/responses", key, {
        "model": "gpt-5-mini", "input": text("tokens=30;reasoning=20"), "max_output_tokens": 100}), {"route": "responses"}
    yield "messages", lambda: ask(f"{url}/anthropic/v1/messages", key, {
        "model": "claude-sonnet-4-5", "max_tokens": 50, "messages": [{"role": "user", "content": text("tokens=5")}]},
        {"anthropic-version": "2023-06-01"}), {"provider": "anthropic"}
    yield "gemini", lambda: ask(f"{url}/gemini/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", key, {
        "contents": [{"role": "user", "parts": [{"text": text("tokens=5")}]}]}), {"provider": "gemini", "stream": True}
    yield "bedrock", lambda: ask(f"{url}/bedrock/model/amazon.nova-lite-v1:0/converse", key, {
        "messages": [{"role": "user", "content": [{"text": text("tokens=5")}]}], "inferenceConfig": {"maxTokens": 50}}), {"provider": "bedrock"}
    yield "azure", lambda: ask(f"{url}/azure/openai/deployments/d/chat/completions?api-version=2024-10-21", key, chat("tokens=5")), {
        "provider": "azure", "requested_model": "d"}
    yield "mistral", lambda: ask(f"{url}/mistral/v1/chat/completions", key, chat("tokens=5", model="mistral-small-latest")), {"provider": "mistral"}


def bad_calls(gateway, key, poor):
    """(what, how it is made, status of the answer, what its line must say)."""
    url = f"{gateway.url}/openai/v1/chat/completions"
    none = {"cost_usd": None, "held_usd": None, "charged": None, "tokens": None, "hold_id": None}
    yield "no key", lambda: ask(url, "lp-wrong", chat("tokens=1")), 401, {"ending": "refused", "code": "invalid_key", "key_id": None, **none}
    yield "no money", lambda: ask(url, poor, chat("tokens=1")), 402, {
        "ending": "refused", "code": "budget_exceeded", "model": "gpt-4o-mini", "status": 402, **none}
    hostile = 'x"}\n{"type":"call"}\u202e'
    yield "no model", lambda: ask(url, key, chat("tokens=1", model=hostile)), 422, {"ending": "refused", "code": "unknown_model", "model": None, **none}
    yield "no JSON", lambda: ask(url, key, b"{"), 400, {"ending": "refused", "code": "invalid_request", **none}
    yield "no route", lambda: ask(f"{gateway.url}/openai/v1/secret", key, {}), 404, {"ending": "refused", "code": "unknown_route", "route": None, **none}
    yield "no provider", lambda: ask(f"{gateway.url}/x%22y/v1", key, {}), 404, {"ending": "refused", "provider": None, **none}
    yield "bad session", lambda: ask(url, key, chat("tokens=1"), {"x-loopers-session-id": "a b"}), 400, {"session_id": None, "code": "invalid_request"}
    yield "free route", lambda: ask(f"{gateway.url}/openai/v1/models", key, None), 200, {"ending": "ok", "code": None, "route": "models", **none}
    yield "provider error", lambda: ask(url, key, chat("status=500")), 500, {"ending": "provider_error", "status": 500, "code": None, "held_usd": ...}
    yield "provider dies", lambda: ask(url, key, chat("tokens=9;die_at=3")), 502, {
        "ending": "upstream_failed", "code": "upstream_unreachable", "charged": "full", "status": 502}
    yield "provider is not there", lambda: ask(f"{gateway.url}/dead/v1/chat/completions", key, chat("tokens=1", model="m")), 502, {
        "ending": "unreached", "code": "upstream_unreachable", "charged": "exact", "cost_usd": "0", "status": 502, "provider": "dead"}


def leave(gateway, key):
    with contextlib.closing(send(gateway.port, key, "tokens=30;rate=60", read=False, stream=True)) as connection:
        check(connection.recv(1), "no answer")


def kill(gateway, key, name):
    """A stream that an operator ends."""
    with contextlib.closing(send(gateway.port, key, "endless=1;rate=20", read=False, stream=True, max_tokens=400)) as connection:
        check(connection.recv(1), "no answer")
        gateway.command("kill", name)
        with contextlib.suppress(ConnectionError, socket.timeout):
            while connection.recv(65536):
                pass


def test_every_call_however_it_ends_is_one_line_of_the_call_log():
    with tempfile.TemporaryDirectory() as folder, Processes(folder) as processes:
        mock = processes.mock()
        gateway = Gateway(processes, mock, "file:loopers.db", providers=providers(mock), prices=prices(processes.folder), log={"format": "json"})
        names = ("rich", "poor", "small", "doomed")
        keys = {"rich": gateway.key("rich", "--monthly", "100"), "poor": gateway.key("poor", "--monthly", "0"),
                "small": gateway.key("small", "--monthly", "0.0001"), "doomed": gateway.key("doomed", "--monthly", "5")}
        calls = Calls(gateway)
        rich = keys["rich"]
        for what, make, expected in good_calls(gateway, rich):
            status = make()
            check(status == 200, f"{what}: status {status}")
            call = calls.next(what, {"ending": "ok", "status": 200, "charged": "exact", "code": None, "cut": None, **expected})
            check(call["tokens"]["output"] > 0 and nano(call["cost_usd"]) > 0, f"{what}: {call}")
            check(nano(call["cost_usd"]) <= nano(call["held_usd"]), f"{what}: costs more than was held: {call}")
            check(call["ttft_us"] is not None and call["overhead_us"] <= call["duration_us"], f"{what}: times {call}")
        for what, make, status, expected in bad_calls(gateway, rich, keys["poor"]):
            got = make()
            check(got == status, f"{what}: status {got}, not {status}")
            calls.next(what, {name: value for name, value in expected.items() if value is not ...})
        check(send(gateway.port, keys["small"], "tokens=900")[0] == 200, "a clamped call is answered")
        check(calls.next("clamped", {"ending": "ok"})["clamped_to"] >= 16, "it does not say to what")
        send(gateway.port, rich, "tokens=400;obey=0", stream=True, max_tokens=16)
        calls.next("cut", {"ending": "cut", "cut": "hold_reached", "code": "budget_exceeded", "charged": "full", "status": 200})
        leave(gateway, rich)
        calls.next("client leaves", {"ending": "client_gone", "charged": "exact", "stream": True})
        kill(gateway, keys["doomed"], "doomed")
        calls.next("killed", {"ending": "cut", "cut": "key_paused", "code": "key_paused", "charged": "full"})
        get(f"{gateway.url}/healthz")
        # One more in the very moment of the stop: its line is written all the same.
        send(gateway.port, rich, "tokens=1")
        gateway.process.send_signal(signal.SIGTERM)
        check(gateway.process.wait(timeout=60) == 0, "exit code")
        calls.next("the last one", {"ending": "ok"})
        every = calls.all()
        agrees_with_the_books(gateway, names, every)
        billed, _ = invoice(mock)
        charged = sum(nano(call["cost_usd"] or "0") for call in every)
        check(billed <= charged, f"the lines add up to {charged}, the invoice is {billed}")
        says_no_secret(gateway, processes, keys)
        ids = [call["request_id"] for call in every]
        check(len(set(ids)) == len(ids), "an id is there twice")
        return f"{len(every)} calls, {len(set(call['ending'] for call in every))} endings, every line valid; sum of cost_usd = spent of all keys = {charged} nano-dollars"


def agrees_with_the_books(gateway, names, calls):
    ids = {name: gateway.command("keys", "show", name)["id"] for name in names}
    for name in names:
        spent, held = gateway.books(name)
        told = sum(nano(call["cost_usd"] or "0") for call in calls if call["key_id"] == ids[name])
        check((spent, held) == (told, 0), f"{name}: spent {spent} and held {held} in the books, {told} in the log")


def says_no_secret(gateway, processes, keys):
    written = gateway.calls.read_text() + (processes.folder / "gateway.log").read_text()
    for secret in (PROMPT, PROVIDER_KEY, "lp-wrong", *keys.values()):
        check(secret not in written, f"{secret[:8]}… stands in the log")
    for line in (processes.folder / "gateway.log").read_text().splitlines():
        check(line.startswith(("{", "warning:", "note:")), f"not JSON: {line}")
        if line.startswith("{"):
            check(set(json.loads(line)) == {"time", "type", "level", "message"}, f"other fields: {line}")
