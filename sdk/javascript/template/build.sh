#!/bin/sh
# Makes build/impostor.wasm. Needs componentize-qjs; `make setup-languages` installs it, and so does `npm install -g componentize-qjs`.
set -eu
cd "$(dirname "$0")"
PATH="${WAYPOST_LANGUAGES:-$HOME/.cache/waypost/languages}/bin:$PATH"
wit=${WAYPOST_WIT:-wit}
[ -e "$wit/hooks.wit" ] || wit=../../wit
rm -rf build/wit
mkdir -p build/wit/deps
cp -r "$wit" build/wit/deps/plugin
cp world.wit build/wit/

componentize-qjs --sync --stub-wasi --wit build/wit --world plugin --js component.js -o build/impostor.wasm
