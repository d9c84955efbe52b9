#!/usr/bin/env bash
# make bench: builds what is measured, then measures it. Arguments go to loadtest/bench.py (see --help there).
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh bench
cargo build --locked --release --bin loopers --example plain_proxy --example ledger_bench
exec python3 loadtest/bench.py --target "${CARGO_TARGET_DIR:-target}/release" "$@"
