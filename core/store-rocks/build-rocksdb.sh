#!/bin/sh
# Builds RocksDB once per version into a per-user cache, so that no profile and no clone compiles its 343 C++ files again, and tells cargo
# where the library is (.cargo/config.toml, which git ignores). Done in a second when the library is there.
#
# The library is made by the crate's own build script from the sources it carries; nothing is downloaded but the crate itself.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"

version=$(sed -n '/^name = "librocksdb-sys"$/{n;s/^version = "\(.*\)"$/\1/p;}' Cargo.lock)
[ -n "$version" ] || { echo "build-rocksdb: librocksdb-sys is not in Cargo.lock" >&2; exit 1; }
cache=${XDG_CACHE_HOME:-$HOME/.cache}/waypost
folder=$cache/rocksdb-$version-$(uname -m)
library=$folder/librocksdb.a

if [ ! -f "$library" ]; then
    echo "Building RocksDB ($version): once for this user, about 22 minutes on two cores. Later builds find it in $folder." >&2
    # Hardware CRC and carry-less multiplication are there on every x86-64 server since 2011; without them the log's checksums are slow.
    flags=
    [ "$(uname -m)" = x86_64 ] && flags="-msse4.2 -mpclmul"
    work=$cache/build-$version
    env -u ROCKSDB_LIB_DIR -u ROCKSDB_STATIC CXXFLAGS="${CXXFLAGS:-} $flags" \
        cargo build --quiet --release -p librocksdb-sys --target-dir "$work" \
        --config 'env.ROCKSDB_COMPILE={value="true",force=true}' \
        --config 'profile.release.opt-level=3' --config 'profile.release.debug=false'
    built=$(find "$work/release/build" -path '*librocksdb-sys-*/out/librocksdb.a' | head -n 1)
    [ -n "$built" ] || { echo "build-rocksdb: cargo finished, but left no librocksdb.a below $work" >&2; exit 1; }
    mkdir -p "$folder"
    cp "$built" "$library.new"
    mv "$library.new" "$library"
    rm -rf "$work"
fi

mkdir -p .cargo
wanted="[env]
ROCKSDB_LIB_DIR = \"$folder\"
ROCKSDB_STATIC = \"1\""
[ "$(cat .cargo/config.toml 2>/dev/null)" = "$wanted" ] || printf '%s\n' "$wanted" > .cargo/config.toml
