"""Reads the output of `make -s demo ARGS=--json` on stdin: exactly one JSON object, whose books hold."""

import json
import sys
from decimal import Decimal

text = sys.stdin.read()
report = json.loads(text)
invoice, charged, limit = (Decimal(report[name]) for name in ("invoice_usd", "charged_usd", "limit_usd"))
problems = []
if not Decimal(0) < invoice <= charged <= limit:
    problems.append(f"invoice {invoice} <= charged {charged} <= limit {limit} does not hold")
for name in ("calls_ok", "calls_clamped", "calls_refused", "streams_cut"):
    count = report[name]
    if not isinstance(count, int) or count < 1:
        problems.append(f"{name} is {count!r}, the demo must show at least one")
if problems:
    sys.exit("demo: " + "; ".join(problems))
print(f"demo: invoice {invoice} <= charged {charged} <= limit {limit}")
