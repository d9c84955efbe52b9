# make demo    build, and watch a budget hold on real HTTP calls (ARGS=--json for one JSON object)
# make test    every test: Rust, the official SDKs for Python and JavaScript, deployment, short load tests
# make help    the other targets

SHELL := /bin/bash
TARGET := $(or $(CARGO_TARGET_DIR),target)
CARGO := cargo
LOCKED := --locked
# Seconds that each fuzz target runs.
FUZZ_SECONDS ?= 600
# Schedules of the simulation; SEED=… make sim repeats one and prints it.
SIMS ?= 1000000
# Random requests that each provider is billed for, and the first one's seed.
BILLS ?= 1000000
SEED ?= 1
# Seconds of chaos. Unlike the bills, it takes a new seed each time unless SEED is given.
CHAOS_SECONDS ?= 600

# For long runs: optimised, with overflow checks, and with the dependencies that the tests have built.
FAST := --config profile.dev.opt-level=3

# Rust tests that run at once.
TEST_THREADS ?= 4

# What the tests from outside run; see test-sdk.
DEBUG_BIN := $(TARGET)/debug/loopers

.PHONY: help demo test test-rust test-chaos test-outside test-sdk test-deploy test-readme test-load bench bench-cpu lint doc fuzz bills sim chaos clean

help:
	@echo 'make demo      build the release binary and run the demo (ARGS=--json: one JSON object on stdout)'
	@echo 'make test      Rust tests, and beside them the four below'
	@echo 'make test-sdk  the official SDKs for Python and JavaScript (ARGS=PART-OF-A-NAME)'
	@echo 'make test-deploy  Dockerfile, compose, Kubernetes, alerts and dashboard, SIGTERM (ARGS=PART-OF-A-NAME)'
	@echo 'make test-readme  the code blocks of README.md (ARGS=PART-OF-A-NAME)'
	@echo 'make test-load    k6: smoke and budget race, briefly; loadtest/run.sh has the long ones'
	@echo 'make bench     requests/s and CPU per request: direct, nginx, plain Pingora, Loopers'
	@echo 'make bench-cpu CPU time of metering an event and of bounding a body, by provider (ARGS=PART-OF-A-NAME)'
	@echo 'make lint      rustfmt, clippy, licences and duplicates of dependencies'
	@echo 'make doc       API documentation, warnings denied'
	@echo 'make fuzz      each fuzz target for FUZZ_SECONDS ($(FUZZ_SECONDS))'
	@echo 'make bills     no invoice above its hold: BILLS random requests a provider ($(BILLS)), from SEED ($(SEED))'
	@echo 'make chaos     three gateways, Redis and the mock under load and faults, for CHAOS_SECONDS ($(CHAOS_SECONDS)); SEED=N repeats one'
	@echo 'make sim       SIMS simulated schedules ($(SIMS)), each step judged; SEED=… repeats one and prints it'
	@echo 'make clean     remove target/ and .venv/'

# Nothing but the demo writes to stdout: set-up and cargo write to stderr.
demo:
	@scripts/setup.sh build
	@$(CARGO) build $(LOCKED) --release --bin loopers 1>&2
	@$(TARGET)/release/loopers demo $(ARGS)

# Most tests wait for processes, sockets and timers: so two lanes at a time, and more tests at a time than processors. Chaos comes last and alone:
# its gateways give up on a ledger that takes 0.4 seconds.
test:
	@scripts/setup.sh test
	@scripts/setup.sh sdk
	@scripts/setup.sh deploy
	$(CARGO) test $(LOCKED) --no-run
	$(CARGO) test $(LOCKED) --no-run --test chaos
	$(MAKE) --no-print-directory -j2 test-rust test-outside
	$(MAKE) --no-print-directory test-chaos

test-rust:
	@scripts/setup.sh test
	RUST_TEST_THREADS=$(TEST_THREADS) $(CARGO) test $(LOCKED)

# The short form.
test-chaos:
	@scripts/setup.sh test
	$(CARGO) test $(LOCKED) --test chaos

# Everything that runs the program from outside.
test-outside:
	$(MAKE) --no-print-directory -j1 test-sdk test-readme test-deploy test-load

# Builds the binary as `cargo test` does: a plain `cargo build` selects other features of shared dependencies, and compiles them again.
test-sdk:
	@scripts/setup.sh sdk
	$(CARGO) test $(LOCKED) --no-run --test tidy
	LOOPERS_BIN=$(DEBUG_BIN) .venv/bin/python tests/sdk/run.py $(ARGS)

test-deploy:
	@scripts/setup.sh deploy
	$(CARGO) test $(LOCKED) --no-run --test tidy
	LOOPERS_BIN=$(DEBUG_BIN) .venv/bin/python tests/deploy/run.py $(ARGS)

test-readme:
	@scripts/setup.sh sdk
	@scripts/setup.sh deploy
	$(CARGO) test $(LOCKED) --no-run --test tidy
	LOOPERS_BIN=$(DEBUG_BIN) .venv/bin/python tests/readme/run.py $(ARGS)

test-load:
	@scripts/setup.sh deploy
	$(CARGO) test $(LOCKED) --no-run --test tidy
	LOOPERS_BIN=$(DEBUG_BIN) .venv/bin/python tests/deploy/load.py

bench:
	@scripts/setup.sh bench
	loadtest/bench.sh $(ARGS)

# No LTO: a release is somewhat faster.
bench-cpu:
	@scripts/setup.sh build
	$(CARGO) bench $(LOCKED) --profile dev $(FAST) --bench meter -- $(ARGS)

lint:
	$(CARGO) fmt --check
	CLIPPY_CONF_DIR=.ci $(CARGO) clippy $(LOCKED) --all-targets --test chaos -- -D warnings
	python3 scripts/check_deps.py

doc:
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc $(LOCKED) --no-deps

fuzz:
	@scripts/setup.sh build
	LOOPERS_FUZZ_SECONDS=$(FUZZ_SECONDS) $(CARGO) test $(LOCKED) $(FAST) --test fuzz -- --nocapture --test-threads=2

bills:
	@scripts/setup.sh build
	LOOPERS_BILL_CASES=$(BILLS) LOOPERS_BILL_SEED=$(SEED) $(CARGO) test $(LOCKED) $(FAST) --lib --test anthropic_bill --test bedrock --test openai_family -- \
		--nocapture the_invoice_never_exceeds no_invoice

# SEED has a default for the bills; a seed of its own is given on the command line or in the environment.
chaos:
	@scripts/setup.sh test
	CHAOS_SECONDS=$(CHAOS_SECONDS) SEED=$(if $(filter file,$(origin SEED)),,$(SEED)) $(CARGO) test $(LOCKED) --test chaos

# A SEED of the environment reaches the test as it is.
sim:
	@scripts/setup.sh build
	SIMS=$(SIMS) $(CARGO) test $(LOCKED) $(FAST) --test sim -- --nocapture every_schedule

clean:
	$(CARGO) clean
	rm -rf .venv
