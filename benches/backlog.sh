#!/bin/sh
# What a long queue costs: start, memory, and delivery out of it. `benches/backlog.sh [MESSAGES] [DESTINATIONS]`, a million to a hundred thousand
# destinations otherwise. Needs root for port 25 of loopback, and about 2 GiB of disk for each million.
set -eu
cd "$(dirname "$0")/.."
cargo build --quiet --release -p waypost
cargo build --quiet --release -p waypost-store-rocks --example fill
WAYPOST_BACKLOG="${1:-1000000}" WAYPOST_BACKLOG_DESTINATIONS="${2:-100000}" \
    cargo test --quiet --release -p waypost-tests --test backlog -- --nocapture
