"""What a real gateway tells of its calls: each one a line of the call log that its schema admits, and spans and metrics by OTLP."""

import contextlib
import http.server
import json
import re
import signal
import socket
import tempfile
import threading
import time
import urllib.error
import urllib.request

import jsonschema
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

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
    found["azure"] = {"base_url": f"{mock}/azure", "key": key, "deployments": {"my-gpt-4o-mini": "gpt-4o-mini"}}
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
        "model": "claude-opus-5", "max_tokens": 50, "messages": [{"role": "user", "content": text("tokens=5")}]},
        {"anthropic-version": "2023-06-01"}), {"provider": "anthropic"}
    yield "gemini", lambda: ask(f"{url}/gemini/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", key, {
        "contents": [{"role": "user", "parts": [{"text": text("tokens=5")}]}]}), {"provider": "gemini", "stream": True}
    yield "bedrock", lambda: ask(f"{url}/bedrock/model/us.amazon.nova-2-lite-v1%3A0/converse", key, {
        "messages": [{"role": "user", "content": [{"text": text("tokens=5")}]}], "inferenceConfig": {"maxTokens": 50}}), {"provider": "bedrock"}
    yield "azure", lambda: ask(f"{url}/azure/openai/deployments/my-gpt-4o-mini/chat/completions?api-version=2024-10-21", key, chat("tokens=5")), {
        "provider": "azure", "requested_model": "gpt-4o-mini"}
    yield "mistral", lambda: ask(f"{url}/mistral/v1/chat/completions", key, chat("tokens=5", model="mistral-small-latest")), {"provider": "mistral"}


def bad_calls(gateway, key, poor):
    """(what, how it is made, status of the answer, what its line must say)."""
    url = f"{gateway.url}/openai/v1/chat/completions"
    none = {"cost_usd": None, "held_usd": None, "charged": None, "tokens": None, "hold_id": None}
    yield "no key", lambda: ask(url, "lp-wrong", chat("tokens=1")), 401, {"ending": "refused", "code": "invalid_key", "key_id": None, **none}
    yield "no money", lambda: ask(url, poor, chat("tokens=1")), 402, {
        "ending": "refused", "code": "budget_exceeded", "model": "gpt-4o-mini", "status": 402, **none}
    hostile = 'x"}\n{"type":"call"}\u202e'
    yield "no model", lambda: ask(url, key, chat("tokens=1", model="no-such-model")), 422, {
        "ending": "refused", "code": "unknown_model", "model": None, **none}
    yield "a hostile model", lambda: ask(url, key, chat("tokens=1", model=hostile)), 400, {"ending": "refused", "model": None, **none}
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




class Collector:
    """A receiver of OTLP over HTTP, decoded by OpenTelemetry's own protobuf classes; hangs or refuses when told to."""

    def __init__(self):
        self.spans, self.metrics, self.headers, self.resources = [], {}, [], []
        self.refuse, self.hang, self.asked = 0, threading.Event(), 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                outer.take(self)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/otel"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.hang.clear()
        self.server.shutdown()
        self.server.server_close()

    def take(self, request):
        body = request.rfile.read(int(request.headers["content-length"]))
        self.asked += 1
        deadline = time.monotonic() + 120
        while self.hang.is_set() and time.monotonic() < deadline:
            time.sleep(0.05)
        refused = self.refuse > 0
        self.refuse -= refused
        if not refused:
            self.headers.append(dict(request.headers))
            {"/otel/v1/traces": self.take_traces, "/otel/v1/metrics": self.take_metrics}[request.path](body)
        with contextlib.suppress(ConnectionError):
            request.send_response(503 if refused else 200)
            request.send_header("content-length", "0")
            request.end_headers()

    def take_traces(self, body):
        for group in trace_service_pb2.ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(attributes(group.resource))
            self.spans.extend(span for scope in group.scope_spans for span in scope.spans)

    def take_metrics(self, body):
        for group in metrics_service_pb2.ExportMetricsServiceRequest.FromString(body).resource_metrics:
            self.resources.append(attributes(group.resource))
            self.metrics.update({metric.name: metric for scope in group.scope_metrics for metric in scope.metrics})

    def of(self, trace):
        """The spans of a trace: the gateway's, the provider's."""
        found = [span for span in self.spans if span.trace_id.hex() == trace]
        kinds = {Span.SPAN_KIND_SERVER: [], Span.SPAN_KIND_CLIENT: []}
        for span in found:
            kinds[span.kind].append(span)
        return kinds[Span.SPAN_KIND_SERVER], kinds[Span.SPAN_KIND_CLIENT]


def attributes(owner):
    def value(any_value):
        kind = any_value.WhichOneof("value")
        found = getattr(any_value, kind)
        return [value(one) for one in found.values] if kind == "array_value" else found

    return {pair.key: value(pair.value) for pair in owner.attributes}


def points(metric):
    return list(getattr(metric, metric.WhichOneof("data")).data_points)


def otlp(collector, **more):
    return {"endpoint": collector.url, "headers": "env:OTLP_HEADERS", "metrics_seconds": 1, **more}


def test_traces_and_metrics_arrive_by_otlp_in_the_words_of_the_conventions():
    with tempfile.TemporaryDirectory() as folder, Processes(folder) as processes, Collector() as collector:
        mock = processes.mock()
        gateway = Gateway(processes, mock, "file:loopers.db", providers=providers(mock), prices=prices(processes.folder),
                          otlp=otlp(collector, service_name="loopers-test"))
        key, poor = gateway.key("rich", "--monthly", "100"), gateway.key("poor", "--monthly", "0")
        calls = Calls(gateway)
        url = f"{gateway.url}/openai/v1/chat/completions"
        # The collector is away for a moment first: nothing is lost by that.
        collector.refuse = 1
        ask(url, key, chat("tokens=9;prompt=100;cached=60"), {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-loopers-session-id": SESSION})
        good = calls.next("good", {"ending": "ok", "trace_id": TRACE})
        ask(url, poor, chat("tokens=1"))
        refused = calls.next("refused", {"ending": "refused"})
        ask(url, key, chat("status=429"))
        failed = calls.next("failed", {"ending": "provider_error"})
        other = "11111111111111111111111111111111"
        ask(url, key, chat("tokens=1"), {"traceparent": f"00-{other}-{PARENT}-00"})
        calls.next("its client records nothing", {"trace_id": other})
        ask(url, key, chat("tokens=1"), {"traceparent": "00-nonsense"})
        strange = calls.next("nonsense", {"ending": "ok"})
        eventually("spans", lambda: collector.of(strange["trace_id"])[1])
        spans_of_a_good_call(collector, good, mock)
        spans_of_bad_calls(collector, refused, failed)
        check(not any(span.trace_id.hex() == other for span in collector.spans), "a trace that is not recorded has spans")
        check(strange["trace_id"] != TRACE and len(strange["trace_id"]) == 32, f"not a trace of its own: {strange}")
        billed, _ = invoice(mock)
        metrics_agree(collector, gateway, billed)
        gateway.process.send_signal(signal.SIGTERM)
        check(gateway.process.wait(timeout=60) == 0, "exit code")
        told = repr(collector.spans) + repr(collector.metrics) + repr(collector.resources)
        log = (processes.folder / "gateway.log").read_text()
        for secret in (PROMPT, PROVIDER_KEY, key, poor, "otlp-secret"):
            check(secret not in told and secret not in log, f"{secret[:8]}… was told")
        check(all(one.get("Authorization", one.get("authorization")) == "Bearer otlp-secret-of-the-deploy-test" for one in collector.headers),
              f"headers {collector.headers[:1]}")
        check(all(one["service.name"] == "loopers-test" for one in collector.resources), f"{collector.resources[:1]}")
        return f"{len(collector.spans)} spans, {len(collector.metrics)} metrics, decoded by opentelemetry-proto"


def spans_of_a_good_call(collector, call, mock):
    (outer,), (inner,) = collector.of(TRACE)
    check(outer.parent_span_id.hex() == PARENT, "not a child of the client's span")
    check(inner.parent_span_id == outer.span_id, "the provider's span is not inside")
    check(outer.start_time_unix_nano <= inner.start_time_unix_nano < inner.end_time_unix_nano <= outer.end_time_unix_nano, "times")
    check(inner.name == "chat gpt-4o-mini", inner.name)
    expected = {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.response.model": call["response_model"], "gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 9,
        "gen_ai.usage.cache_read.input_tokens": 60, "server.address": "127.0.0.1", "server.port": int(mock.rsplit(":")[-1])}
    found = attributes(inner)
    for name, value in expected.items():
        check(found.get(name) == value, f"{name}: {found.get(name)!r}, not {value!r}")
    check("error.type" not in found and inner.status.code == Status.STATUS_CODE_UNSET, f"an error: {found}")
    found = attributes(outer)
    expected = {
        "loopers.request.id": call["request_id"], "loopers.key.id": call["key_id"], "loopers.session.id": SESSION, "loopers.hold.id": call["hold_id"],
        "loopers.cost_usd": call["cost_usd"], "loopers.cost_nano_usd": nano(call["cost_usd"]), "loopers.held_usd": call["held_usd"],
        "loopers.charged": "exact", "loopers.ending": "ok", "http.response.status_code": 200}
    for name, value in expected.items():
        check(found.get(name) == value, f"{name}: {found.get(name)!r}, not {value!r}")


def spans_of_bad_calls(collector, refused, failed):
    (outer,), inner = collector.of(refused["trace_id"])
    check(not inner, "a refused call has a span at its provider")
    check(attributes(outer)["error.type"] == "budget_exceeded" and not outer.parent_span_id, f"{attributes(outer)}")
    (_,), (inner,) = collector.of(failed["trace_id"])
    check(attributes(inner)["error.type"] == "429" and inner.status.code == Status.STATUS_CODE_ERROR, f"{attributes(inner)}")


def metrics_agree(collector, gateway, billed):
    """Waits for an export that has all calls, and compares it with the books."""
    everyone = lambda name: points(collector.metrics[name]) if name in collector.metrics else []
    eventually("all calls are in the metrics", lambda: sum(point.as_int for point in everyone("loopers.calls")) == 5)
    check(sum(point.as_int for point in everyone("loopers.charged")) == billed == gateway.books("rich")[0], "loopers.charged is not what was billed")
    check(sum(point.as_int for point in everyone("loopers.overrun")) == 0, "an overrun")
    usage = {attributes(point)["gen_ai.token.type"]: point for point in everyone("gen_ai.client.token.usage")}
    check(usage["output"].sum == 9 + 1 + 1 and usage["output"].count == 3, f"output tokens: {usage['output']}")
    check(collector.metrics["gen_ai.client.token.usage"].unit == "{token}", "unit")
    durations = everyone("gen_ai.client.operation.duration")
    check(sum(point.count for point in durations) == 4, f"calls to the provider: {durations}")
    check({attributes(point).get("error.type") for point in durations} == {None, "429"}, "error.type")
    check(sum(point.count for point in everyone("gen_ai.server.time_to_first_token")) == 4, "first tokens")
    check(sum(point.count for point in everyone("loopers.overhead")) == 5, "overhead")
    for gauge in ("loopers.held", "loopers.holds.open", "loopers.streams.open", "loopers.ledger.up"):
        check(len(everyone(gauge)) == 1, f"{gauge} is missing")


def times_of(gateway, key, count):
    """Seconds of so many calls, one after the other, shortest first."""
    took = []
    for _ in range(count):
        started = time.monotonic()
        status, _ = send(gateway.port, key, "tokens=1")
        took.append(time.monotonic() - started)
        check(status == 200, f"status {status}")
    return sorted(took)


def counted(gateway, series):
    found = re.search(rf"^{re.escape(series)} (\S+)$", get(f"{gateway.admin}/metrics"), re.M)
    return float(found[1]) if found else None


def test_a_collector_that_hangs_delays_no_call_and_what_does_not_fit_is_counted():
    patience, count = 3, 200
    with tempfile.TemporaryDirectory() as folder, Processes(folder) as processes, Collector() as collector:
        mock = processes.mock()
        gateway = Gateway(processes, mock, "file:loopers.db", otlp=otlp(collector, queue=100, timeout_seconds=patience))
        key = gateway.key("rich", "--monthly", "100")
        dropped, failed = 'loopers_otlp_dropped_total{what="spans"}', 'loopers_otlp_exports_total{result="failed",signal="traces"}'
        check(counted(gateway, dropped) == 0 == counted(gateway, failed), "counters do not begin at 0")
        calm = times_of(gateway, key, count)
        eventually("spans arrive", lambda: collector.spans)
        collector.hang.set()
        before = collector.asked
        times_of(gateway, key, 1)
        eventually("the collector hangs", lambda: collector.asked > before)
        stuck = times_of(gateway, key, count)
        at99 = count * 99 // 100
        check(stuck[at99] < patience, f"p99 {stuck[at99]:.3f} s: calls wait for the collector")
        eventually("what did not fit is counted", lambda: counted(gateway, dropped) > 0)
        eventually("the failure is counted", lambda: counted(gateway, failed) > 0, seconds=60)
        collector.hang.clear()
        trace = "22222222222222222222222222222222"
        ask(f"{gateway.url}/openai/v1/chat/completions", key, chat("tokens=1"), {"traceparent": f"00-{trace}-{PARENT}-01"})
        eventually("spans arrive again", lambda: collector.of(trace)[1], seconds=60)
        return f"p99 of {count} calls {1000 * calm[at99]:.1f} ms, {1000 * stuck[at99]:.1f} ms with a collector that hangs; {counted(gateway, dropped):.0f} spans dropped"
