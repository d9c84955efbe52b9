#!/usr/bin/env python3
"""The load tests, briefly: smoke, a budget race, and a race that must be lost, so that a broken cap is known to be noticed.

    LOOPERS_BIN=target/debug/loopers .venv/bin/python tests/deploy/load.py
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

from common import ROOT, binary, check, check_secrets, secret_in

RACE = {"DURATION": "8s", "VUS": "300", "LIMIT": "0.03"}


def run(what, **environment):
    with tempfile.TemporaryDirectory() as folder:
        # Its files stay, to be searched.
        environment = dict(os.environ, LOOPERS_BIN=str(binary()), TMPDIR=folder, KEEP="yes", **environment)
        done = subprocess.run([ROOT / "loadtest/run.sh", what], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=300)
        check_secrets(pathlib.Path(folder))
    check(not secret_in(done.stdout.encode()), f"a secret is shown:\n{done.stdout}")
    return done.returncode, done.stdout


def smoke():
    code, text = run("smoke")
    check(code == 0, f"exit {code}\n{text}")
    return text


def race():
    code, text = run("race", **RACE)
    check(code == 0 and "dollars over cap = 0.000000000\n" in text, f"exit {code}\n{text}")
    return text


def race_with_wrong_prices():
    """The gateway believes half of the true prices, so the provider's invoice passes the limit."""
    prices = (ROOT / "conf/prices.yaml").read_text()
    wrong = re.sub(r'(openai/gpt-4o-mini:\n  input: )"0.15"(\n  output: )"0.6"', r'\1"0.075"\2"0.3"', prices)
    check(wrong != prices, "gpt-4o-mini has other prices now: change this test")
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "prices.yaml"
        path.write_text(wrong)
        code, text = run("race", PRICES=str(path), **RACE)
    over = re.search(r"^dollars over cap = (\S+)$", text, re.M)
    check(code != 0 and over and float(over[1]) > 0, f"a broken cap was not noticed: exit {code}\n{text}")
    check(re.search(r"thresholds on metrics .*dollars_over_cap", text), f"k6's own threshold did not notice it\n{text}")
    return "\n".join(line for line in text.splitlines() if "over cap" in line or "THE BOOKS" in line or "crossed" in line)


def main():
    failed = 0
    tests = (smoke, race, race_with_wrong_prices)
    for test in tests:
        try:
            said = test()
        except AssertionError as problem:
            failed += 1
            print(f"FAILED {test.__name__}: {problem}", flush=True)
        else:
            print(f"ok     {test.__name__}\n" + "\n".join(f"       {line}" for line in said.strip().splitlines()[-7:]), flush=True)
    print(f"{len(tests) - failed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
