#!/bin/sh
# Makes build/sender-domain.wasm. Needs asc (npm package assemblyscript) and wasm-tools; `make setup-languages` installs both.
set -eu
cd "$(dirname "$0")"
PATH="${WAYPOST_LANGUAGES:-$HOME/.cache/waypost/languages}/bin:$PATH"
wit=${WAYPOST_WIT:-wit}
[ -e "$wit/hooks.wit" ] || wit=../../wit
rm -rf build/wit
mkdir -p build/wit/deps
cp -r "$wit" build/wit/deps/plugin
cp world.wit build/wit/

# The collector is run by hand, between two calls; a failed assertion is a line in the log and a trap.
asc waypost/component.ts --runtime minimal --exportStart _initialize --use abort=waypost/abi/abort --transform ./waypost/names.mjs -O3 -o build/core.wasm
wasm-tools component embed build/wit build/core.wasm --world plugin --encoding utf16 -o build/embedded.wasm
wasm-tools component new build/embedded.wasm -o build/sender-domain.wasm
