#!/bin/sh
# Makes build/card-numbers.wasm. Needs zig (0.17) and wasm-tools; `make setup-languages` installs both.
set -eu
cd "$(dirname "$0")"
PATH="${WAYPOST_LANGUAGES:-$HOME/.cache/waypost/languages}/bin:$PATH"
wit=${WAYPOST_WIT:-wit}
[ -e "$wit/hooks.wit" ] || wit=../../wit
rm -rf build/wit
mkdir -p build/wit/deps
cp -r "$wit" build/wit/deps/plugin
cp world.wit build/wit/

# ReleaseSafe traps where ReleaseSmall would go on: an overflow costs one message a 451 instead of a wrong answer.
zig build-exe filter.zig -target wasm32-freestanding -fno-entry -rdynamic -O ReleaseSafe -fstrip -femit-bin=build/core.wasm --cache-dir build/cache
wasm-tools component embed build/wit build/core.wasm --world plugin -o build/embedded.wasm
wasm-tools component new build/embedded.wasm -o build/card-numbers.wasm
