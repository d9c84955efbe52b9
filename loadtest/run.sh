#!/usr/bin/env bash
# Load tests with k6 against real gateways on one Redis, and a mock provider that keeps the invoice.
#
#   loadtest/run.sh smoke      every kind of answer, looked at closely
#   loadtest/run.sh race       VUS users (300) spend LIMIT dollars (0.05) from one key, through every gateway, for DURATION (20s)
#   loadtest/run.sh streams    VUS streams (200) at once of TOKENS (60) at RATE a second (20), for DURATION (20s)
#   loadtest/run.sh soak       a mixed load of RATE calls a second (50) for DURATION (5m); prints memory, open files and answer
#                              times over time, one row for every SAMPLE_SECONDS (30)
#
# GATEWAYS: how many (2). LOOPERS_BIN: the binary (target/release/loopers). K6: the k6 to use (.venv/bin/k6, else k6).
# LEDGER_MS: the wait for the ledger (3000, not the usual 250: users, gateways, Redis and mock share one machine here, and a call that
# waited for a CPU is refused with 503, which fails the run). PRICES: the price file (conf/prices.yaml). KEEP=1 keeps the folder with logs and configs.
# Exit 0 only if every threshold holds and the books are right.
#
# Everything is started here, on free loopback ports, and ended by process id, whatever happens.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
root="$(dirname "$here")"

die() { printf 'loadtest: %s\n' "$*" >&2; exit 1; }

what="${1:-}"
case "$what" in smoke | race | streams | soak) ;; *) sed -n '2,15s/^# \{0,1\}//p' "$0" >&2; exit 2 ;; esac
loopers="$(realpath "${LOOPERS_BIN:-$root/target/release/loopers}" 2>/dev/null)" || true
[ -x "$loopers" ] || die "no binary at ${LOOPERS_BIN:-target/release/loopers}: run cargo build --release, or set LOOPERS_BIN"
k6="${K6:-$root/.venv/bin/k6}"
[ -x "$k6" ] || k6="$(command -v k6)" || die "k6 is missing: run scripts/setup.sh deploy"
command -v redis-server >/dev/null || die "redis-server is missing: run scripts/setup.sh deploy"

folder="$(mktemp -d "${TMPDIR:-/tmp}/loopers-load.XXXXXX")"
started=()

stop_all() {
    local status=$? pid at
    trap - EXIT INT TERM
    # Last started, first stopped: gateways before the Redis that they settle to.
    for ((at = ${#started[@]} - 1; at >= 0; at--)); do
        pid="${started[at]}"
        kill -TERM "$pid" 2>/dev/null || true
        for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    if [ "$status" != 0 ]; then
        for log in "$folder"/*.log; do [ -s "$log" ] && { echo "--- $(basename "$log"), last lines"; tail -n 8 "$log"; } >&2; done
    fi
    if [ -n "${KEEP:-}" ]; then echo "kept: $folder" >&2; else rm -rf "$folder"; fi
    exit "$status"
}
trap stop_all EXIT
trap 'exit 130' INT TERM

start() { # name command...
    local name="$1"
    shift
    (cd "$folder" && exec "$@") >"$folder/$name.log" 2>&1 </dev/null &
    started+=($!)
}

# Waits until a path of a port answers 200; without a path, until the port is open.
wait_for() { # name port [path]
    local name="$1" port="$2" path="${3:-}" pid="${started[-1]}" line
    for _ in $(seq 300); do
        kill -0 "$pid" 2>/dev/null || die "$name ended: $(tail -n 3 "$folder/$name.log")"
        if exec 9<>"/dev/tcp/127.0.0.1/$port"; then
            line=" 200 "
            if [ -n "$path" ]; then
                printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$path" >&9
                read -r -t 5 line <&9 || line=""
            fi
            exec 9>&-
            case "$line" in *" 200 "*) return ;; esac
        fi 2>/dev/null
        sleep 0.1
    done
    die "$name did not come up within 30 s"
}

prices="$(realpath "${PRICES:-$root/conf/prices.yaml}")"
gateways="${GATEWAYS:-2}"
read -ra ports <<<"$(python3 - "$((2 + 2 * gateways))" <<'PY'
import socket, sys
taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(one.getsockname()[1] for one in taken))
PY
)"
redis_port="${ports[0]}" mock_port="${ports[1]}"
export LOOPERS_LOG="${LOOPERS_LOG:-warn}" OPENAI_API_KEY=sk-test-load LOOPERS_ADMIN_TOKEN=token-of-the-load-test
mock="http://127.0.0.1:$mock_port"

# Persistence as a careful operator would run it.
start redis redis-server --port "$redis_port" --bind 127.0.0.1 --save '' --appendonly yes --appendfsync everysec \
    --maxmemory-policy noeviction --dir "$folder"
wait_for redis "$redis_port"
start mock "$loopers" mock --listen "127.0.0.1:$mock_port"
wait_for mock "$mock_port" /invoice
urls=()
for ((at = 0; at < gateways; at++)); do
    port="${ports[2 + 2 * at]}" admin="${ports[3 + 2 * at]}"
    cat >"$folder/gateway-$at.yaml" <<YAML
listen: 127.0.0.1:$port
admin: { listen: "127.0.0.1:$admin", token: "env:LOOPERS_ADMIN_TOKEN" }
ledger: redis://127.0.0.1:$redis_port
prices: ["$prices"]
providers: { openai: { base_url: "$mock", key: "env:OPENAI_API_KEY" } }
limits: { ledger_ms: ${LEDGER_MS:-3000} }
YAML
    start "gateway-$at" "$loopers" serve --config "$folder/gateway-$at.yaml"
    wait_for "gateway-$at" "$port" /readyz
    urls+=("http://127.0.0.1:$port")
done

new_key() { # name limit
    "$loopers" keys create --config "$folder/gateway-0.yaml" --name "$1" --monthly "$2" --json |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["key"])'
}

names=(load)
limits=(1000)
case "$what" in
    smoke) names+=(poor); limits+=(0) ;;
    race) limits=("${LIMIT:-0.05}") ;;
    soak) names+=(load-2 load-3 load-4); limits+=(1000 1000 1000) ;;
esac
keys=()
for at in "${!names[@]}"; do keys+=("$(new_key "${names[at]}" "${limits[at]}")"); done

join() { local IFS=,; echo "$*"; }
usage() { # CPU seconds and resident MiB of each process, from /proc
    python3 - "$@" <<'PY'
import os, pathlib, sys
for pair in sys.argv[1:]:
    name, pid = pair.split("=")
    folder = pathlib.Path("/proc") / pid
    if not folder.exists():
        continue
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    status = (folder / "status").read_text()
    rss = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(("VmRSS", "VmHWM"))}
    print(f"{name}: {cpu:.1f} s CPU, {rss['VmRSS']:.0f} MiB resident, {rss['VmHWM']:.0f} MiB at most")
PY
}
watched=("redis=${started[0]}" "mock=${started[1]}")
for ((at = 0; at < gateways; at++)); do watched+=("gateway-$at=${started[2 + at]}"); done
before="$(usage "${watched[@]}")"

outputs=()
sample_seconds="${SAMPLE_SECONDS:-30}"
if [ "$what" = soak ]; then
    outputs=(--out "csv=$folder/calls.csv")
    start samples python3 "$here/samples.py" watch "$folder/samples.jsonl" "$sample_seconds" "${watched[@]}"
fi

status=0
GATEWAYS="$(join "${urls[@]}")" KEYS="$(join "${keys[@]}")" MOCK="$mock" \
    "$k6" run --quiet --no-color --no-usage-report --address "" ${outputs[@]+"${outputs[@]}"} "$here/$what.js" </dev/null || status=$?
if [ "$what" = soak ]; then
    printf '\n'
    python3 "$here/samples.py" table "$folder/samples.jsonl" "$sample_seconds" "$folder/calls.csv" || status=1
fi

printf '\nprocesses before\n%s\nprocesses after\n%s\n\n' "$before" "$(usage "${watched[@]}")"
# The same books once more, from outside of k6: the command line's view of the ledger against the mock's invoice.
for name in "${names[@]}"; do
    "$loopers" budget status "$name" --config "$folder/gateway-0.yaml" --json >"$folder/status-$name.json"
done
python3 - "$what" "$mock/invoice" "$folder" "${names[@]}" <<'PY' || status=1
import json, pathlib, sys, urllib.request
from decimal import Decimal

what, url, folder, *names = sys.argv[1:]
with urllib.request.urlopen(url, timeout=10) as answer:
    invoice = Decimal(json.load(answer)["invoice_nano"]).scaleb(-9)
charged = held = limit = Decimal(0)
for name in names:
    report = json.loads((pathlib.Path(folder) / f"status-{name}.json").read_text())
    level = next(level for level in report["levels"] if level["level"] == "key")
    month = next(window for window in level["windows"] if window["window"] == "monthly")
    charged += Decimal(month["spent_usd"])
    held += Decimal(month["held_usd"])
    limit += Decimal(month["limit_usd"])
over = max(invoice - limit, charged + held - limit, Decimal(0))
for label, amount in (("provider invoice", invoice), ("charged", charged), ("held", held), ("limit", limit)):
    print(f"{label:<17} {amount:.9f}")
print(f"dollars over cap = {over:.9f}")
sound = over == 0 and held == 0 and invoice <= charged <= limit and (invoice > 0)
print(f"{what}: {'the books are right' if sound else 'THE BOOKS ARE WRONG'}")
sys.exit(not sound)
PY
[ "$status" = 0 ] || die "$what failed"
