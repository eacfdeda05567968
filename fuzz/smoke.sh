#!/bin/sh
# Builds every fuzz target without cargo-fuzz and runs each for a short time from its seeds: `fuzz/smoke.sh [seconds] [target…]`.
# With cargo-fuzz the same targets run by `cargo +nightly fuzz run data`. What is found stays in fuzz/artifacts.
set -eu
cd "$(dirname "$0")"
seconds=${1:-10}
[ $# -gt 0 ] && shift
targets=${*:-command data address reply session client header sasl token ldap spf dmarc arc authentication tables config proxy codec report}
if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "Fuzzing needs a nightly compiler: installing it once (about a minute)." >&2
    rustup toolchain install nightly --profile minimal
fi
host=$(rustc +nightly -vV | sed -n 's/^host: //p')
# Coverage for libFuzzer. --target keeps these flags away from build scripts.
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1" \
    cargo +nightly build --quiet --release --target "$host"
built=${CARGO_TARGET_DIR:-target}/$host/release
for target in $targets; do
    mkdir -p "corpus/$target" artifacts
    echo "fuzz $target: $seconds s"
    "$built/$target" -max_total_time="$seconds" -max_len=8192 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
        -artifact_prefix="artifacts/$target-" "corpus/$target" "seeds/$target" >"artifacts/$target.log" 2>&1 || {
        tail -40 "artifacts/$target.log"
        echo "fuzz $target FAILED: the input is fuzz/artifacts/$target-*; log in fuzz/artifacts/$target.log" >&2
        exit 1
    }
    grep -E 'number_of_executed_units|new_units_added' "artifacts/$target.log" | tr '\n' ' '
    echo
done
