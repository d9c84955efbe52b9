#!/usr/bin/env python3
"""How processes and answers behave over a load test: one row for each interval.

    samples.py watch FILE SECONDS NAME=PID…    appends memory and open files of each process to FILE until it is stopped
    samples.py table FILE SECONDS CALLS.csv    prints a Markdown table of FILE and of k6's samples (`k6 run --out csv=CALLS.csv`)

Memory and files are those at the end of an interval. Answer times are those of calls of the kind `chat` that ended in it, as the
client saw them.
"""

import csv
import json
import os
import pathlib
import sys
import time


def sample(pid):
    """Resident MiB and open files of a process; None when it is gone."""
    folder = pathlib.Path("/proc") / pid
    try:
        status = (folder / "status").read_text()
        files = len(os.listdir(folder / "fd"))
    except OSError:
        return None
    resident = next((line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")), None)
    return None if resident is None else {"mib": int(resident) / 1024, "files": files}


def watch(path, seconds, pairs):
    processes = dict(pair.split("=") for pair in pairs)
    start = time.time()
    with open(path, "a", encoding="utf-8") as out:
        for turn in range(1, 1_000_000):
            found = {name: sample(pid) for name, pid in processes.items()}
            out.write(json.dumps({"at": time.time(), "processes": found}) + "\n")
            out.flush()
            time.sleep(max(0.0, start + turn * seconds - time.time()))


def answers(path, start, seconds):
    """Times of chat calls in ms, by interval."""
    by_interval = {}
    with open(path, newline="", encoding="utf-8") as lines:
        head = next(csv.reader([next(lines)]))
        # Most of a long run's millions of lines are of other metrics.
        wanted = (line for line in lines if line.startswith("http_req_duration,"))
        for row in csv.DictReader(wanted, head):
            if "kind=chat" not in row["extra_tags"].split("&"):
                continue
            interval = int((float(row["timestamp"]) - start) // seconds)
            by_interval.setdefault(interval, []).append(float(row["metric_value"]))
    return by_interval


def quantile(times, share):
    times = sorted(times)
    return times[min(len(times) - 1, int(len(times) * share))]


def table(path, seconds, calls):
    rows = [json.loads(line) for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines()]
    start = rows[0]["at"]
    names = list(rows[0]["processes"])
    times = answers(calls, start, seconds)
    heads = [f"{name} MiB | {name} files" for name in names]
    print(f"| minute | {' | '.join(heads)} | chat calls | p50 ms | p99 ms |")
    print("|---:" * (1 + 2 * len(names) + 3) + "|")
    for at, row in enumerate(rows):
        cells = [f"{(row['at'] - start) / 60:.1f}"]
        for name in names:
            found = row["processes"][name]
            cells += ["-", "-"] if found is None else [f"{found['mib']:.0f}", str(found["files"])]
        of_interval = times.get(at - 1, [])
        cells.append(str(len(of_interval)))
        cells += [f"{quantile(of_interval, share):.1f}" if of_interval else "-" for share in (0.5, 0.99)]
        print(f"| {' | '.join(cells)} |")


def main():
    match sys.argv[1:]:
        case ["watch", path, seconds, *pairs] if pairs:
            watch(path, float(seconds), pairs)
        case ["table", path, seconds, calls]:
            table(path, float(seconds), calls)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
