#!/usr/bin/env python3
"""Runs the deployment tests: every `test_…` of the modules below.

    LOOPERS_BIN=target/debug/loopers .venv/bin/python tests/deploy/run.py [PART-OF-A-NAME…]
"""

import importlib
import sys
import time
import traceback

MODULES = ("static", "shutdown", "telemetry", "dashboard", "image")


def tests(wanted):
    for module in MODULES:
        for name, function in vars(importlib.import_module(module)).items():
            full = f"{module}.{name.removeprefix('test_')}"
            if name.startswith("test_") and (not wanted or any(part in full for part in wanted)):
                yield full, function


def main():
    passed, failed = 0, 0
    for name, function in tests(sys.argv[1:]):
        started = time.monotonic()
        try:
            said = function()
        except Exception as problem:
            failed += 1
            if not isinstance(problem, AssertionError):
                traceback.print_exc()
            print(f"FAILED {name} ({time.monotonic() - started:.1f} s): {problem}", flush=True)
        else:
            passed += 1
            print(f"ok     {name} ({time.monotonic() - started:.1f} s){f': {said}' if said else ''}", flush=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0 or passed == 0)


if __name__ == "__main__":
    main()
