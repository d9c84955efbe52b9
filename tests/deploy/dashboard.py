"""Real gateways under load, a real Prometheus that scrapes them: every panel has data, every rule is evaluated."""

import contextlib
import json
import math
import re
import tempfile
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import yaml

from common import Gateway, Processes, ROOT, check, eventually, free_port, get, load, output_of, program, send

LOAD_SECONDS = 14
# Metrics that panels and alerts are ready for and the gateway does not have yet. One that has come must leave this list.
AWAITED = set()
# What Grafana puts in for its variables.
GRAFANA = {"$__rate_interval": "10s", "$__range": "30s", "$instance": ".*"}


def panels():
    for panel in json.loads((ROOT / "conf/grafana/dashboards/loopers.json").read_text())["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def alerts():
    return [rule for group in load("conf/prometheus/rules.yml")["groups"] for rule in group["rules"]]


def metrics_of(expression):
    return {re.sub("_(bucket|sum|count)$", "", name) for name in re.findall(r"\bloopers_\w+", expression)}


def work(gateways, keys, until):
    """All kinds of calls, from several threads, that make every metric move."""

    def calls(number):
        gateway = gateways[number % len(gateways)]
        while time.monotonic() < until:
            send(gateway.port, keys["rich"], "tokens=20", max_tokens=30)
            send(gateway.port, keys["rich"], "tokens=20;rate=40", stream=True, max_tokens=30)
            send(gateway.port, keys["poor"], "tokens=20")
            send(gateway.port, keys["rich"], "tokens=20", model="no-such-model")
            send(gateway.port, keys["rich"], "tokens=9;usage=huge")
            # More than it was allowed: the gateway cuts it.
            send(gateway.port, keys["rich"], "tokens=400;obey=0", stream=True, max_tokens=16)
            leave(gateway, keys["rich"])

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(calls, number) for number in range(6)]:
            done.result()


def leave(gateway, key):
    with contextlib.closing(send(gateway.port, key, "tokens=40;rate=40", read=False, stream=True)) as connection:
        connection.recv(1)


def prometheus(processes, gateways):
    """Prometheus with the rules and the config of compose.yaml; only the targets and the pace are others."""
    config = load("conf/prometheus/prometheus.yml")
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    job = config["scrape_configs"][0]
    del job["dns_sd_configs"]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{gateway.admin_port}" for gateway in gateways]}]
    (processes.folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    (processes.folder / "rules.yml").write_text((ROOT / "conf/prometheus/rules.yml").read_text())
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def ready():
        with contextlib.suppress(OSError):
            return get(f"{url}/-/ready")

    processes.start("prometheus", program("prometheus"), "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb",
                    f"--web.listen-address=127.0.0.1:{port}", ready=ready)
    return url


def series(url, expression, now):
    for name, value in GRAFANA.items():
        expression = expression.replace(name, value)
    check("$" not in expression, f"a variable that this test does not know: {expression}")
    query = urllib.parse.urlencode({"query": expression, "start": now - 8, "end": now, "step": 1})
    found = json.loads(get(f"{url}/api/v1/query_range?{query}"))["data"]["result"]
    return [one for one in found if any(math.isfinite(float(value)) for _, value in one["values"])]


def test_every_panel_and_rule_has_data_from_a_gateway_under_load():
    with tempfile.TemporaryDirectory() as folder, Processes(folder) as processes:
        _, redis = processes.redis()
        mock = processes.mock()
        # Nobody listens at the collector's address: its counters are there all the same.
        gateways = [Gateway(processes, mock, redis, name, otlp={"endpoint": "http://127.0.0.1:9"}) for name in ("a", "b")]
        keys = {"rich": gateways[0].key("rich", "--monthly", "1000"), "poor": gateways[0].key("poor", "--monthly", "0")}
        url = prometheus(processes, gateways)
        load_thread = threading.Thread(target=work, args=(gateways, keys, time.monotonic() + LOAD_SECONDS))
        load_thread.start()
        time.sleep(LOAD_SECONDS - 2)
        exposed = get(f"{gateways[0].admin}/metrics")
        now = time.time()
        load_thread.join()
        output_of(program("promtool"), "check", "metrics", text=exposed)
        known = set(re.findall(r"^# TYPE (\S+)", exposed, re.M))
        check(not known & AWAITED, f"no longer awaited, take it out of AWAITED: {known & AWAITED}")
        empty, full = [], 0
        for title, expression in panels():
            if metrics_of(expression) & AWAITED:
                continue
            full += 1
            if not series(url, expression, now):
                empty.append(f"{title}: {expression}")
        check(not empty, "panels without data:\n  " + "\n  ".join(empty))
        every = [expression for _, expression in panels()] + [rule["expr"] for rule in alerts()]
        named = set().union(*map(metrics_of, every))
        check(named - AWAITED <= known, f"metrics that no gateway has: {named - AWAITED - known}")
        check(AWAITED <= named, f"awaited, but nothing uses it: {AWAITED - named}")
        evaluated(url)
        unseen = known - named
        check(not unseen, f"metrics that neither a panel nor an alert shows: {unseen}")
        waiting = sum(bool(metrics_of(expression) & AWAITED) for _, expression in panels())
        return f"{full} queries have data, {waiting} await {', '.join(sorted(AWAITED))}; {len(alerts())} rules evaluated; promtool check metrics clean"


def evaluated(url):
    """Every alert is loaded, and was evaluated without an error; the ones for broken money do not fire."""

    def all_ok():
        groups = json.loads(get(f"{url}/api/v1/rules"))["data"]["groups"]
        found = {rule["name"]: rule for group in groups for rule in group["rules"]}
        return found if all(rule["health"] == "ok" for rule in found.values()) else None

    found = eventually("every rule was evaluated", all_ok)
    check(set(found) == {rule["alert"] for rule in alerts()}, f"Prometheus has the rules {sorted(found)}")
    for name in ("LoopersOverrun", "LoopersLedgerDown", "LoopersDown"):
        check(found[name]["state"] != "firing", f"{name} fires: {found[name]['alerts']}")
    check(found["LoopersOddUsage"]["state"] == "firing", "LoopersOddUsage does not fire, although usage was odd")
