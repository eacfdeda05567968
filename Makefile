# The commands a reader types. Each is a line or two, and CI calls the same ones.
#
#   make run         build and start a working mail server on loopback, no configuration needed
#   make test        everything that CI runs
#   make setup       install what is missing (the other targets call it)
#   make lint        format, clippy, floors 0 and 1 without an operating system
#   make crash       power cuts, failing and full disks, fifty times SIGKILL under load (WAYPOST_KILLS=1000 for more)
#   make count       instructions of each step of a message, held against what they were (benches/count/counts.tsv)
#   make fuzz-smoke  every fuzz target for a few seconds
#   make languages   installs the toolchains of all languages, builds the plugin templates, and runs them in the server
#   make plugins     the four shipped plugins as WebAssembly components

PLUGINS = -p waypost-plugin-whitelist -p waypost-plugin-dns-lists -p waypost-plugin-spam-score -p waypost-plugin-dkim-sign
FLOORS = -p waypost-types -p waypost-smtp -p waypost-route -p waypost-queue
ARGS ?=

.PHONY: run setup setup-tests setup-languages languages plugins test lint count unit e2e crash bench fuzz-smoke clean

run: setup plugins
	@test -x target/release/waypost || echo "Building Waypost: about ten minutes the first time on two cores." >&2
	cargo build --quiet --release -p waypost
	@exec target/release/waypost run $(ARGS)

setup:
	@core/daemon/setup.sh run

setup-tests:
	@core/daemon/setup.sh test

setup-languages:
	@sdk/setup-languages.sh $(LANGUAGES)

plugins: setup
	cargo build --quiet --release --target wasm32-wasip2 $(PLUGINS)

test: setup-tests lint count unit e2e crash

lint: setup
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings
	cargo check --quiet --target wasm32-unknown-unknown $(FLOORS)

unit: setup plugins
	cargo nextest --version >/dev/null 2>&1 && cargo nextest run --workspace --exclude waypost-tests --no-fail-fast || \
		{ cargo nextest --version >/dev/null 2>&1 && exit 1; cargo test --workspace --exclude waypost-tests; }

e2e: setup-tests plugins
	cargo build --quiet -p waypost
	cargo test -p waypost-tests --test tidy --test e2e --test clients -- --test-threads 4

languages: setup-tests setup-languages plugins
	cargo build --quiet -p waypost
	cargo test -p waypost-tests --test languages -- --test-threads 2 --nocapture

crash: setup-tests plugins
	cargo build --quiet -p waypost
	cargo test -p waypost-tests --test faults -- --test-threads 2
	cargo test -p waypost-tests --test crash -- --nocapture

bench: setup-tests plugins
	cargo build --quiet --release -p waypost -p waypost-bench
	target/release/waypost-bench run --html target/bench.html --json target/bench.json

count: setup-tests
	cargo build --quiet --profile count -p waypost-count
	$${CARGO_TARGET_DIR:-target}/count/waypost-count $(ARGS)

fuzz-smoke: setup
	fuzz/smoke.sh

clean:
	cargo clean
