#!/bin/sh
# Makes build/greylist.wasm. Needs go (1.24 or newer) and wasm-tools; `make setup-languages` installs both.
set -eu
cd "$(dirname "$0")"
PATH="${WAYPOST_LANGUAGES:-$HOME/.cache/waypost/languages}/bin:$PATH"
wit=${WAYPOST_WIT:-wit}
[ -e "$wit/hooks.wit" ] || wit=../../wit
rm -rf build/wit
mkdir -p build/wit/deps
cp -r "$wit" build/wit/deps/plugin
cp world.wit build/wit/

GOOS=wasip1 GOARCH=wasm GOWORK=off go build -buildmode=c-shared -trimpath -ldflags '-s -w' -o build/core.wasm .
wasm-tools component embed build/wit build/core.wasm --world plugin -o build/embedded.wasm
# Go asks for WASI preview 1 to start. The stub answers it inside the component: no clock, no files, nothing of the host.
wasm-tools component new build/embedded.wasm --adapt "wasi_snapshot_preview1=$wit/wasi_stub.wat" -o build/greylist.wasm
