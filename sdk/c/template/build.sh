#!/bin/sh
# Makes build/relocated.wasm. Needs zig, for its C compiler with the headers and libc of WebAssembly, and wasm-tools; `make setup-languages`
# installs both. Any clang with wasi-libc does as well: `CC="clang --target=wasm32-wasi"`.
set -eu
cd "$(dirname "$0")"
PATH="${WAYPOST_LANGUAGES:-$HOME/.cache/waypost/languages}/bin:$PATH"
wit=${WAYPOST_WIT:-wit}
[ -e "$wit/hooks.wit" ] || wit=../../wit
rm -rf build/wit
mkdir -p build/wit/deps
cp -r "$wit" build/wit/deps/plugin
cp world.wit build/wit/

${CC:-zig cc -target wasm32-wasi} -mexec-model=reactor -std=c11 -Os -Wall -Wextra -Werror -Wl,--strip-all -o build/core.wasm filter.c waypost/waypost.c
wasm-tools component embed build/wit build/core.wasm --world plugin -o build/embedded.wasm
# What wasi-libc asks of WASI preview 1 is answered inside the component, by a stub without a clock and without files.
wasm-tools component new build/embedded.wasm --adapt "wasi_snapshot_preview1=$wit/wasi_stub.wat" -o build/relocated.wasm
