#!/usr/bin/env python3
"""Runs the tests of all official SDKs, in Python and in JavaScript: side by side, each with a mock and a gateway of its own.

    LOOPERS_BIN=target/debug/loopers .venv/bin/python tests/sdk/run.py [PART-OF-A-NAME]

An SDK whose provider this version of the gateway does not have is SKIPPED, which is not passed; the last lines name them.
"""

import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
PROGRAMS = [
    [sys.executable, HERE / "python/test_openai_sdk.py"],
    [sys.executable, HERE / "python/test_sdks.py"],
    ["node", HERE / "js/test_sdks.mjs"],
]
# What a program exits with when no test has the name that was asked for.
NOTHING_RAN = 3


def main():
    start = time.monotonic()
    running = [
        subprocess.Popen(
            [*program, *sys.argv[1:]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for program in PROGRAMS
    ]
    codes, skipped = [], []
    for program, child in zip(PROGRAMS, running):
        print(f"=== {program[1].relative_to(HERE)}", flush=True)
        for line in child.stdout:
            print(line, end="", flush=True)
            if line.startswith("SKIPPED "):
                skipped.append(line)
        codes.append(child.wait())
    print(f"=== {time.monotonic() - start:.0f} s", *skipped, sep="\n", end="", flush=True)
    print()
    failed = [str(program[1].name) for program, code in zip(PROGRAMS, codes) if code not in (0, NOTHING_RAN)]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")
    if all(code == NOTHING_RAN for code in codes):
        sys.exit("no test has that name")


if __name__ == "__main__":
    main()
