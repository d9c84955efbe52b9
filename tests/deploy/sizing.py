#!/usr/bin/env python3
"""The sizing table of docs/OPERATIONS.md, computed from the costs of a call that loadtest/README.md has measured.

    python tests/deploy/sizing.py --write      after new figures in loadtest/README.md
"""

import math
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/OPERATIONS.md"
BEGIN, END = "<!-- made by tests/deploy/sizing.py -->\n", "<!-- end -->\n"
CALLS = (100, 1_000, 10_000, 30_000, 100_000)
# What the table plans with: use of a CPU, CPUs and calls in flight of a gateway, seconds of a call, fewest gateways and primaries.
USE, CPUS, IN_FLIGHT, SECONDS, GATEWAYS_LEAST, PRIMARIES_LEAST = 0.6, 2, 5_000, 5, 2, 3


def measured():
    """CPU of a short call in the gateway and in Redis, in microseconds, and pairs of reserve and settle a second."""
    text = (ROOT / "loadtest/README.md").read_text()
    row = re.search(r"^\| Loopers redis: \|(.*)\|$", text, re.M)[1].split("|")
    pairs = re.search(r"^\| redis: \|[^|]*\|\s*([\d,]+)\s*\|$", text, re.M)[1]
    return float(row[3].split()[0]), float(row[5]), int(pairs.replace(",", ""))


def row(calls, gateway_us, redis_us):
    cpus, threads = calls * gateway_us / 1e6 / USE, calls * redis_us / 1e6 / USE
    by_cpu, by_calls = math.ceil(cpus / CPUS), math.ceil(calls * SECONDS / IN_FLIGHT)
    gateways = max(by_cpu, by_calls, GATEWAYS_LEAST)
    primaries = max(math.ceil(threads), PRIMARIES_LEAST)
    redis = "one primary, one replica" if threads <= 1 else f"Cluster, {primaries} primaries"
    return (f"| {calls:,} | {cpus:.2g} | {by_cpu} | {by_calls} | {gateways} | {threads:.2g} | {redis} | {calls * SECONDS:,} |\n")


def section():
    gateway_us, busy_us, pairs = measured()
    # A Redis that does nothing else takes longer for a pair than its share of a call: the larger of the two.
    redis_us = max(busy_us, 1e6 / pairs)
    tree = 1e6 / redis_us
    trees = math.ceil(CALLS[-1] / (tree * USE))
    table = "".join(row(calls, gateway_us, redis_us) for calls in CALLS)
    return (
        f"From the measured cost of a call in [loadtest/README.md](../loadtest/README.md): {gateway_us:.0f} µs of gateway CPU for a\n"
        f"short call that is not streamed, and {redis_us:.0f} µs of Redis: a second divided by the {pairs:,} pairs of reserve and settle that one took, or its CPU per call\n"
        f"({busy_us:.0f} µs) if that is more. CPUs are planned at {USE * 100:.0f} % use, gateways with {CPUS} CPUs each; calls in flight are calls/s times the duration of a call, here\n"
        f"{SECONDS} s, at {IN_FLIGHT:,} a gateway. So, for N calls/s: gateways = max(N × {gateway_us:.0f} µs / {USE} / {CPUS}, N × {SECONDS} s / {IN_FLIGHT:,}, {GATEWAYS_LEAST}), and\n"
        f"Redis threads = N × {redis_us:.0f} µs / {USE}. Take 3 gateways at least over three zones.\n\n"
        f"| calls/s | gateway CPUs at {USE * 100:.0f} % | gateways by CPU | gateways by {SECONDS} s calls | gateways | Redis threads at {USE * 100:.0f} % | Redis | provider connections |\n"
        f"|---:|---:|---:|---:|---:|---:|---|---:|\n{table}\n"
        f"Only the costs of a call are measured; every row is computed from them and none was run as a whole. **One tree** cannot be served faster than one Redis\n"
        f"thread: {tree:,.0f} calls/s at 100 %, so plan {tree * USE:,.0f}. {CALLS[-1]:,} calls/s therefore need at least {trees} trees of about equal traffic.\n"
    )


def on_page():
    before, rest = PAGE.read_text().split(BEGIN)
    found, after = rest.split(END, 1)
    return before, found, after


def main():
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    before, _, after = on_page()
    PAGE.write_text(before + BEGIN + section() + END + after)


if __name__ == "__main__":
    main()
