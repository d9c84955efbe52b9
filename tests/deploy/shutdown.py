"""SIGTERM: what the gateway does, and that Kubernetes and compose give it the time for it."""

import re
import signal
import socket
import tempfile
import threading
import time

from common import Gateway, Processes, ROOT, answer_of, check, eventually, get, invoice, is_open, load, load_all, request, send

# Seconds that a busy machine may add to what is measured; the manifests leave at least as much.
SLACK = 4
DRAIN = 2


def constant(pattern, what):
    found = re.search(pattern, (ROOT / "src/gateway/serve.rs").read_text())
    check(found, f"src/gateway/serve.rs: {what} is not where this test looks for it")
    return int(found[1])


def after_drain():
    """Seconds from the end of the drain to the end of the process, at most."""
    settle = constant(r"const LAST_SETTLEMENTS: Duration = Duration::from_secs\((\d+)\)", "LAST_SETTLEMENTS")
    reports = constant(r"const LAST_REPORTS: Duration = Duration::from_secs\((\d+)\)", "LAST_REPORTS")
    # Once for the calls that are cut to end, once for the ledger to take what they owe; then their lines in the log.
    return 2 * settle + reports


def seconds_of(text):
    found = re.fullmatch(r"(\d+)s", text)
    check(found, f"compose.yaml: stop_grace_period must be whole seconds, not {text}")
    return int(found[1])


def test_manifests_leave_the_time_that_a_stop_takes():
    after = after_drain()
    deployment = next(one for one in load_all((ROOT / "k8s/base/deployment.yaml").read_text()) if one["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    drain = load("k8s/base/loopers.yaml")["limits"]["drain_seconds"]
    before = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace, needed = pod["terminationGracePeriodSeconds"], before + drain + after
    check(before >= 5, f"preStop {before} s: too short for every node to learn of it")
    check(grace >= needed + SLACK, f"k8s: grace {grace} s, but preStop {before} + drain {drain} + end {after} = {needed} s, + {SLACK}")
    check(grace <= needed + 60, f"k8s: grace {grace} s is more than a minute beyond the {needed} s that a stop takes")
    drain = load("conf/container.yaml")["limits"]["drain_seconds"]
    grace, needed = seconds_of(load("compose.yaml")["services"]["gateway"]["stop_grace_period"]), drain + after
    check(grace >= needed + SLACK, f"compose: grace {grace} s, but drain {drain} + end {after} = {needed} s, + {SLACK}")
    return f"k8s and compose: drain {drain} s + at most {after} s to the end; compose grace {grace} s"


def world(folder, ledger="file:loopers.db", drain=DRAIN):
    processes = Processes(folder)
    mock = processes.mock()
    return processes, mock, Gateway(processes, mock, ledger, limits={"drain_seconds": drain})


def stop(gateway):
    """Sends SIGTERM; a function that waits for the end and says how long it took and how it ended."""
    started = time.monotonic()
    gateway.process.send_signal(signal.SIGTERM)

    def ended(within):
        code = gateway.process.wait(timeout=within)
        return time.monotonic() - started, code

    return ended


def test_an_idle_gateway_ends_at_once():
    with tempfile.TemporaryDirectory() as folder:
        processes, _, gateway = world(folder, drain=30)
        with processes:
            took, code = stop(gateway)(within=30)
    check(code == 0, f"exit {code}")
    check(took < SLACK, f"took {took:.1f} s with nothing to wait for, and a drain of 30 s")
    return f"ended after {took:.2f} s, exit 0"


def test_a_running_call_ends_whole_and_nothing_new_comes_in():
    with tempfile.TemporaryDirectory() as folder:
        processes, mock, gateway = world(folder, drain=30)
        with processes:
            key = gateway.key("me", "--monthly", "1")
            kept = socket.create_connection(("127.0.0.1", gateway.port), timeout=10)
            found = []
            call = lambda: found.append(send(gateway.port, key, "tokens=60;rate=20", stream=True))
            thread = threading.Thread(target=call)
            thread.start()
            eventually("the stream runs", lambda: "loopers_streams_open 1" in get(f"{gateway.admin}/metrics"))
            ended = stop(gateway)
            # This is what preStop is for: the port is closed as soon as the signal is there.
            eventually("the port is closed", lambda: not is_open(gateway.port), seconds=2)
            kept.sendall(request(key, "tokens=1"))
            status, text = answer_of(kept)
            check(status in (0, 503), f"a connection from before got {status}: {text[:300]}")
            check(status == 0 or "draining" in text, f"503, but not of the drain: {text[:300]}")
            took, code = ended(within=30)
            thread.join()
            status, text = found[0]
            check(status == 200 and "data: [DONE]" in text, f"the running stream was not whole: {status} {text[-300:]}")
            billed, _ = invoice(mock)
            spent, held = Gateway.books(gateway, "me")
    check(code == 0, f"exit {code}")
    check(2 < took < 3 + SLACK, f"took {took:.1f} s; the stream had about 3 s to go, the drain was 30 s")
    check((spent, held) == (billed, 0), f"charged {spent}, held {held}, invoice {billed}")
    return f"stream whole, charged {spent} = invoice {billed}, ended after {took:.2f} s of 30 s"


def test_a_call_that_outlasts_the_drain_is_charged_in_full():
    with tempfile.TemporaryDirectory() as folder:
        processes, mock, gateway = world(folder)
        with processes:
            key = gateway.key("me", "--monthly", "1")
            connection = send(gateway.port, key, "tokens=2000;rate=20", read=False, stream=True, max_tokens=2000)
            eventually("the stream runs", lambda: "loopers_streams_open 1" in get(f"{gateway.admin}/metrics"))
            _, hold = gateway.books("me")
            took, code = stop(gateway)(within=DRAIN + 30)
            connection.close()
            spent, held = gateway.books("me")
            billed, _ = invoice(mock)
    most = DRAIN + after_drain()
    check(code == 0, f"exit {code}")
    check(DRAIN <= took < most + SLACK, f"took {took:.1f} s; drain {DRAIN} s, at most {most} s and {SLACK} s of slack")
    check(held == 0 and spent == hold and spent >= billed, f"hold {hold}, charged {spent}, held {held}, invoice {billed}")
    return f"ended after {took:.2f} s (drain {DRAIN} s, at most {most} s), hold charged in full"


def test_without_its_ledger_it_ends_in_time_all_the_same():
    with tempfile.TemporaryDirectory() as folder:
        with Processes(folder) as redis_of:
            redis, url = redis_of.redis()
            processes, _, gateway = world(folder, ledger=url)
            with processes:
                key = gateway.key("me", "--monthly", "1")
                connection = send(gateway.port, key, "tokens=30;rate=20", read=False, stream=True)
                eventually("the stream runs", lambda: "loopers_streams_open 1" in get(f"{gateway.admin}/metrics"))
                redis.kill()
                redis.wait()
                took, code = stop(gateway)(within=DRAIN + 30)
                connection.close()
                log = (processes.folder / "gateway.log").read_text()
    most = DRAIN + after_drain()
    check(code == 0, f"exit {code}")
    check(took < most + SLACK, f"took {took:.1f} s; at most {most} s and {SLACK} s of slack")
    check("settlements wait below" in log, f"it does not say that a charge is owed:\n{log[-2000:]}")
    return f"ended after {took:.2f} s (at most {most} s), and says what is owed"
