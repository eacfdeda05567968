#!/bin/sh
# What Waypost's own files need on a Debian with rustup, installed where it is missing. `setup.sh run` is enough to build and run;
# `setup.sh test` adds other people's programs for the tests. Takes a second when all is there.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"

packages="build-essential:/usr/bin/c++ libclang-dev:/usr/include/clang-c/Index.h git:/usr/bin/git"
if [ "${1:-run}" = test ]; then
    packages="$packages swaks:/usr/bin/swaks curl:/usr/bin/curl python3:/usr/bin/python3 python3-dkim:/usr/lib/python3/dist-packages/dkim/__init__.py
        python3-nacl:/usr/lib/python3/dist-packages/nacl/__init__.py python3-dns*:/usr/lib/python3/dist-packages/dns/__init__.py
        openssl:/usr/bin/openssl postfix:/usr/sbin/smtp-source procps:/bin/kill"
fi

missing=
for pair in $packages; do
    [ -e "${pair#*:}" ] || ls /usr/lib/llvm-*/include/clang-c/Index.h >/dev/null 2>&1 && [ "${pair%%:*}" = libclang-dev ] && continue
    [ -e "${pair#*:}" ] || missing="$missing ${pair%%:*}"
done
missing=$(printf '%s' "$missing" | sed 's/python3-dns\*/python3-dnspython/')
if [ -n "$missing" ]; then
    command -v apt-get >/dev/null || { echo "setup: please install:$missing" >&2; exit 1; }
    echo "Installing$missing (a minute)." >&2
    as_root=
    [ "$(id -u)" = 0 ] || as_root=sudo
    $as_root env DEBIAN_FRONTEND=noninteractive sh -c "apt-get -qq update && apt-get -qq install -y --no-install-recommends $missing" >/dev/null
fi

command -v rustup >/dev/null || { echo "setup: rustup is missing; see https://rustup.rs" >&2; exit 1; }
toolchain=$(sed -n 's/^channel = "\(.*\)"$/\1/p' rust-toolchain.toml)
have=$(rustup target list --installed --toolchain "$toolchain" 2>/dev/null || true)
for target in wasm32-wasip2 wasm32-unknown-unknown; do
    case "$have" in
        *$target*) ;;
        *) echo "Adding the Rust target $target (seconds)." >&2; rustup target add --toolchain "$toolchain" "$target" >/dev/null 2>&1 ||
           { echo "setup: rustup could not add $target to $toolchain" >&2; exit 1; } ;;
    esac
done
core/store-rocks/build-rocksdb.sh
