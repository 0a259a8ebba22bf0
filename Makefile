# What there is to do: `make help`. Needs Rust (rustup.rs); everything else scripts/servers.sh gets.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# Tests start servers of their own; more at once than this and a small machine only waits.
TEST_THREADS ?= 4
# What a soak runs, and how long each of its tests may go on.
SOAK ?= soak_
SOAK_SECONDS ?= 600
# Which benchmarks, and their options: `scripts/bench.sh --help`. --smoke only tries whether they run.
BENCH ?=
# Which fuzz target, and how long.
FUZZ ?= pgoutput
FUZZ_SECONDS ?= 60

.PHONY: help
help: ## Print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: check
check: ## Format, lints, documentation, layering: warnings are errors
	scripts/servers.sh compiler
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
	cargo test --locked --test it layering

# One process for all tests (no nextest): they share servers.
# Tests whose names start with soak_ take minutes or need more servers: `make soak` runs them.
.PHONY: test
test: ## Every test but the long ones, on real servers that it starts
	scripts/servers.sh tests
	cargo test --locked --doc
	scripts/test.sh $(TEST_THREADS)

.PHONY: soak
soak: ## The long tests, over every PostgreSQL version (SOAK=name, SOAK_SECONDS=n)
	scripts/servers.sh matrix
	SWITCHYARD_SOAK=1 SWITCHYARD_SOAK_SECONDS=$(SOAK_SECONDS) cargo test --locked --test it $(SOAK) -- --test-threads=2 --nocapture

.PHONY: demo
demo: ## The whole story on private servers, in under two minutes after the build
	scripts/servers.sh base
	cargo build --locked --release --bin switchyard
	target/release/switchyard demo --yes

.PHONY: bench
bench: ## Compare with pgcopydb, pgloader, COPY, LOAD DATA and native replication (BENCH=names and options)
	scripts/servers.sh bench
	cargo build --locked --release
	scripts/bench.sh $(BENCH)

.PHONY: servers
servers: ## Get every server that tests, demos and benchmarks may want
	scripts/servers.sh all

.PHONY: fuzz
fuzz: ## Fuzz a decoder (FUZZ=target, FUZZ_SECONDS=n; needs nightly and cargo-fuzz)
	@cargo +nightly fuzz --version >/dev/null 2>&1 || { \
	  echo "fuzzing needs: rustup toolchain install nightly && cargo install cargo-fuzz" >&2; exit 1; }
	cargo +nightly fuzz run $(FUZZ) -- -max_total_time=$(FUZZ_SECONDS)
