#!/bin/sh
# Makes build/attachment-types.wasm. Needs componentize-py; `make setup-languages` installs it, and so does `pip install componentize-py`.
set -eu
cd "$(dirname "$0")"
PATH="${WAYPOST_LANGUAGES:-$HOME/.cache/waypost/languages}/bin:$PATH"
wit=${WAYPOST_WIT:-wit}
[ -e "$wit/hooks.wit" ] || wit=../../wit
rm -rf build/wit
mkdir -p build/wit/deps
cp -r "$wit" build/wit/deps/plugin
cp world.wit build/wit/

# For editors and type checkers: what can be imported from wit_world.
rm -rf build/bindings
componentize-py -q -d build/wit -w plugin bindings build/bindings
componentize-py -q -d build/wit -w plugin componentize component -p . -o build/attachment-types.wasm
