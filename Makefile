# The verbs of this repository. `make demo` and `make test` are enough to start with.
# Everything lands in .venv, target/ and .cache/; nothing outside this folder is changed.

PYTHON ?= python3
VENV ?= .venv
BENCH_VENV ?= .venv-bench
FLINK_VENV ?= .venv-flink
PATHWAY_VENV ?= .venv-pathway
BIN := $(VENV)/bin
SOURCES := python tests bench examples
# An input that takes ten seconds, or a gigabyte, is a find as well.
FUZZ_FLAGS := -max_total_time=600 -max_len=8192 -timeout=10 -rss_limit_mb=1024 -verbosity=0 -print_final_stats=1 -artifact_prefix=../.cache/fuzz/
# Where new inputs are kept, and where known ones are read; or the one file to run.
CORPUS ?= ../.cache/fuzz/corpus corpus

.DEFAULT_GOAL := help
.PHONY: help build demo test test-rust test-python test-integration test-differential-nightly test-faults test-faults-nightly test-soak test-kills-nightly test-simulation test-flink test-asan test-miri test-neon fuzz fuzz-short servers producers example bench bench-decode bench-windows bench-joins bench-state bench-latency bench-rivals bench-kafka docs lint fmt clean need-rust need-cxx need-python

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

need-rust:
	@command -v cargo >/dev/null || { echo "error: no Rust here; get it with: curl -sSf https://sh.rustup.rs | sh" >&2; exit 1; }

need-cxx:
	@command -v c++ >/dev/null || { echo "error: no C++ compiler here; get it with: sudo apt-get install g++" >&2; exit 1; }

need-python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ..." >&2; exit 1; }

# The tools and libraries at the versions of the lock file; renewed when the lock changes.
$(VENV)/.locked: requirements-dev.lock | need-python
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.lock
	@touch $@

# With the points at which tests make a worker fail; a package is built without them.
BUILD_ARGS := --features faults

build: $(VENV)/.locked | need-rust ## compile the engine and install the package into .venv
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --no-deps --no-build-isolation $(if $(BUILD_ARGS),--config-settings=build-args="$(BUILD_ARGS)") --editable .

demo: build ## windows over a generated clickstream, in this terminal, without a broker
	$(BIN)/streamcore demo $(ARGS)

test: test-rust fuzz-short test-python ## the whole suite, real Kafka and Redis included

test-rust: need-rust ## the engine's own tests
	cargo test --workspace --locked --quiet

SEEDS ?= 10000

test-simulation: need-rust ## the epoch commit against a model broker: so many seeds with SEEDS=10000, one told with SEED=17
	STREAMCORE_SEEDS=$(SEEDS) $(if $(SEED),STREAMCORE_SEED=$(SEED)) \
	  cargo test --package streamcore --test simulation --release --locked --quiet -- $(if $(SEED),every_row) --nocapture

fuzz: need-rust need-cxx ## changed JSON records against two parsers for ten minutes; ARGS are flags of libFuzzer (fuzz/README.md)
	@mkdir -p .cache/fuzz/corpus
	cd fuzz && cargo run --release --locked --quiet $(if $(TARGET),--bin $(TARGET)) -- $(FUZZ_FLAGS) $(ARGS) $(CORPUS)

fuzz-short: need-rust need-cxx ## the decoder for one minute; copies, record sets and answers of brokers for a quarter of one each
	@$(MAKE) --no-print-directory fuzz ARGS="-max_total_time=60 $(ARGS)"
	@for target in copy records answers; do \
	  mkdir -p .cache/fuzz/$$target && $(MAKE) --no-print-directory fuzz TARGET=$$target CORPUS=../.cache/fuzz/$$target ARGS="-max_total_time=15 $(ARGS)" || exit 1; \
	done

# The sanitizer comes with stable Rust; only the flag that asks for it does not. Builds of its own: with that variable
# set, some build scripts run again.
ASAN := RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$(CURDIR)/target/asan cargo --config 'build.rustflags=["-Zsanitizer=address"]'

test-asan: need-rust need-cxx ## the decoder's tests and a minute of `make fuzz` under AddressSanitizer; builds all anew
	@mkdir -p .cache/fuzz/corpus
	$(ASAN) test --package streamcore --lib --locked --quiet --target host-tuple -- batch buffer decode raw
	cd fuzz && $(ASAN) run --release --locked --quiet -- $(FUZZ_FLAGS) -max_total_time=60 $(CORPUS)

test-miri: need-rust ## the decoder's tests with portable code under Miri, which only a nightly toolchain has
	@cargo +nightly miri --version >/dev/null 2>&1 \
	  || { echo "error: no Miri here; get it with: rustup toolchain install nightly --component miri" >&2; exit 1; }
	PROPTEST_CASES=8 MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test --package streamcore --lib --locked -- \
	  decode::json decode::block --skip a_layout_finds_what_the_full_parser_finds

AARCH64 := CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU
AARCH64_LIBRARIES ?= /usr/aarch64-linux-gnu

test-neon: need-rust ## the engine's units on aarch64, emulated: the NEON kernel (CONTRIBUTING.md says what it needs)
	@{ command -v aarch64-linux-gnu-gcc && command -v qemu-aarch64; } >/dev/null \
	  || { echo "error: no aarch64 here; get it with: sudo apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user" >&2; exit 1; }
	$(AARCH64)_LINKER=aarch64-linux-gnu-gcc $(AARCH64)_RUNNER="qemu-aarch64 -L $(AARCH64_LIBRARIES)" \
	  cargo test --package streamcore --lib --locked --quiet --target aarch64-unknown-linux-gnu

# Tests with servers wait more than they work: so many files at once, each process with servers of its own.
TESTS_AT_ONCE ?= 3

test-python: build producers ## everything pytest runs; integration tests start and stop their own servers
	$(BIN)/python -m pytest --numprocesses $(TESTS_AT_ONCE) --dist loadfile $(ARGS)

test-integration: build producers ## only the tests against real servers
	$(BIN)/python -m pytest tests/integration $(ARGS)

test-differential-nightly: build ## random pipelines and joins, engine against naive models: 10,000 seeds, or ARGS="--seed N" for one
	$(BIN)/python -m tests.property.differential --seeds 10000 $(ARGS)

# Fault tests wait more than they work: so many at once, each process with servers of its own.
FAULTS_AT_ONCE ?= 3

# By which workers read in tests of faults, `native` or `librdkafka`; empty: as they come, which is native.
TRANSPORT ?=
test-faults test-faults-nightly test-soak: export STREAMCORE_FAULT_TRANSPORT := $(TRANSPORT)

test-faults: build servers ## exactly once under faults: crash points, kills, rebalances, a bad network, a broker that dies; `make test` runs the essential part
	STREAMCORE_FAULT_RUNS=1 $(BIN)/python -m pytest tests/faults --numprocesses $(FAULTS_AT_ONCE) $(ARGS)

test-faults-nightly: build servers ## the same, each twenty times
	STREAMCORE_FAULT_RUNS=20 $(BIN)/python -m pytest tests/faults --numprocesses $(FAULTS_AT_ONCE) $(ARGS)

SOAK_S ?= 3600

test-soak: build servers ## three workers for an hour (or SOAK_S seconds) with a random fault every 30 to 120 s; nothing may be lost or grow
	STREAMCORE_SOAK_S=$(SOAK_S) $(BIN)/python -m pytest tests/faults/test_soak.py --capture=no $(ARGS)

test-kills-nightly: build servers ## a join of two topics, killed with SIGKILL at 100 random moments
	STREAMCORE_KILLS=100 $(BIN)/python -m pytest tests/integration/test_joins_kill.py $(ARGS)

$(FLINK_VENV)/.locked: tests/flink/requirements.txt | need-python
	$(PYTHON) -m venv $(FLINK_VENV)
	$(FLINK_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement tests/flink/requirements.txt
	@touch $@

test-flink: build $(FLINK_VENV)/.locked ## windows and joins against a local Flink: SQL, and data streams with allowed lateness (Java 17)
	@command -v java >/dev/null || { echo "error: no Java here; get it with: sudo apt-get install openjdk-17-jre-headless" >&2; exit 1; }
	STREAMCORE_FLINK_PYTHON=$(FLINK_VENV)/bin/python $(BIN)/python -m pytest tests/flink $(ARGS)

servers: $(VENV)/.locked ## get Kafka's jars and redis-server, or say how
	@scripts/install-servers.sh $(BIN)/python

producers: $(VENV)/.locked ## these servers, and the programs of Java and Go that write to Kafka for the tests
	@scripts/install-servers.sh $(BIN)/python producers

example: build servers ## the clickstream service with real Kafka and Redis: send traffic, ask, stop
	$(BIN)/python examples/clickstream/example.py $(ARGS)

$(BENCH_VENV)/.locked: bench/peers/requirements.txt requirements-dev.lock | need-python
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement bench/peers/requirements.txt
	@touch $@

# What is measured is what is shipped.
bench bench-state bench-latency bench-kafka: BUILD_ARGS :=

bench: build servers $(BENCH_VENV)/.locked ## against the rivals, side by side; writes bench/results/
	$(BIN)/python bench/python/run.py --rivals $(BENCH_VENV)/bin/python $(ARGS)

bench-decode: $(VENV)/.locked | need-rust ## one core: JSON decoding beside simd-json, sonic-rs, jiter, serde_json and orjson, and a lane
	$(BIN)/python bench/python/run.py --only decode --only lane --rounds 9 $(ARGS)

bench-windows: $(VENV)/.locked $(BENCH_VENV)/.locked | need-rust ## windows, sessions and deduplication as they grow, a lane, Nexmark, and group-bys of polars and DuckDB
	$(BIN)/python bench/python/run.py --rivals $(BENCH_VENV)/bin/python --only windows --only lane --only group_by --only nexmark --rounds 5 $(ARGS)

bench-state: build servers ## what exactly once costs: throughput, commits, restore, hand-over
	$(BIN)/python bench/python/run.py --only state --events 12000000 --rounds 5 $(ARGS)

bench-latency: build servers ## how long a row takes at 100,000 events a second, and what an idle worker costs
	$(BIN)/python bench/python/run.py --only latency --events 3000000 --rounds 3 $(ARGS)

# Rivals too large for everybody: they take part once their environment is there.
$(PATHWAY_VENV)/.locked: bench/peers/pathway.txt | need-python
	$(PYTHON) -m venv $(PATHWAY_VENV)
	$(PATHWAY_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement bench/peers/pathway.txt
	@touch $@

bench-rivals: $(PATHWAY_VENV)/.locked $(FLINK_VENV)/.locked ## pathway and Flink, for make bench-kafka; a gigabyte

bench-kafka: build servers $(BENCH_VENV)/.locked ## Kafka to Kafka, exactly once, beside the limit of fetching and rivals
	$(BIN)/python bench/python/run.py --rivals $(BENCH_VENV)/bin/python --pathway $(PATHWAY_VENV)/bin/python --flink $(FLINK_VENV)/bin/python \
	  --only kafka --events 12000000 --rounds 5 $(ARGS)

bench-joins: $(VENV)/.locked | need-rust ## one core: joins of two inputs of 100,000 keys
	$(BIN)/python bench/python/run.py --only joins --rounds 5 $(ARGS)

docs: build ## write docs/pipeline-toml.md from the configuration models
	$(BIN)/streamcore config reference > docs/pipeline-toml.md

lint: build ## formatting, clippy pedantic, ruff, mypy strict, the stub against the binary
	cargo fmt --all --check
	cargo fmt --check --manifest-path bench/rust/Cargo.toml
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
	cargo clippy --manifest-path bench/rust/Cargo.toml --all-targets --locked --quiet -- -D warnings
	CUSTOM_LIBFUZZER_PATH=./none cargo clippy --manifest-path fuzz/Cargo.toml --locked --quiet -- -D warnings
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy $(SOURCES)
	$(BIN)/python -m mypy.stubtest streamcore._core --ignore-disjoint-bases

fmt: $(VENV)/.locked ## format Rust and Python
	cargo fmt --all
	cargo fmt --manifest-path bench/rust/Cargo.toml
	cargo fmt --manifest-path fuzz/Cargo.toml
	$(BIN)/ruff check --fix --quiet $(SOURCES)
	$(BIN)/ruff format --quiet $(SOURCES)

clean: ## remove what the verbs made
	rm -rf target bench/rust/target fuzz/target $(VENV) $(BENCH_VENV) $(FLINK_VENV) $(PATHWAY_VENV) .cache .streamcore dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	rm -f python/streamcore/*.so
