#!/bin/sh
# What Waypost needs on a Debian with rustup, installed where it is missing. `setup.sh run` is enough to build and run; `setup.sh test` adds
# other people's programs for the tests. Takes a second when all is there.
set -eu
cd "$(dirname "$0")/../.."

# One line for each package: its name, and a file that shows it is there.
needed() {
    cat <<'LIST'
build-essential /usr/bin/c++
libclang-dev /usr/lib/llvm-14/include/clang-c/Index.h
git /usr/bin/git
LIST
    [ "$1" = test ] || return 0
    cat <<'LIST'
curl /usr/bin/curl
e2fsprogs /sbin/mkfs.ext4
dovecot-core /usr/sbin/dovecot
gsasl /usr/bin/gsasl
microsocks /usr/bin/microsocks
msmtp /usr/bin/msmtp
opendkim /usr/sbin/opendkim
openssl /usr/bin/openssl
postfix /usr/sbin/smtp-source
procps /bin/kill
python3-dkim /usr/lib/python3/dist-packages/dkim/__init__.py
python3-dnspython /usr/lib/python3/dist-packages/dns/__init__.py
python3-jsonschema /usr/lib/python3/dist-packages/jsonschema/__init__.py
python3-openssl /usr/lib/python3/dist-packages/OpenSSL/__init__.py
python3-nacl /usr/lib/python3/dist-packages/nacl/__init__.py
strace /usr/bin/strace
redis-server /usr/bin/redis-server
sasl2-bin /usr/sbin/saslauthd
slapd /usr/sbin/slapd
swaks /usr/bin/swaks
systemd /usr/bin/systemd-analyze
testssl.sh /usr/bin/testssl
valgrind /usr/bin/valgrind
LIST
}

missing=$(needed "${1:-run}" | while read -r package file; do [ -e "$file" ] || dpkg -s "$package" >/dev/null 2>&1 || printf ' %s' "$package"; done)
if [ -n "$missing" ]; then
    command -v apt-get >/dev/null || { echo "setup: please install$missing" >&2; exit 1; }
    echo "Installing$missing (a minute)." >&2
    as_root=
    [ "$(id -u)" = 0 ] || as_root=sudo
    # shellcheck disable=SC2086
    $as_root env DEBIAN_FRONTEND=noninteractive sh -c 'apt-get -qq update && apt-get -qq install -y --no-install-recommends "$@"' sh $missing >/dev/null
fi

command -v rustup >/dev/null || { echo "setup: rustup is missing; see https://rustup.rs" >&2; exit 1; }
toolchain=$(sed -n 's/^channel = "\(.*\)"$/\1/p' rust-toolchain.toml)
for target in wasm32-wasip2 wasm32-unknown-unknown; do
    rustup target list --installed --toolchain "$toolchain" | grep -qx "$target" && continue
    echo "Adding the Rust target $target (seconds)." >&2
    rustup target add --toolchain "$toolchain" "$target" >/dev/null
done

# Clients that Debian does not have. Tests name aloud what is missing, so that a machine without node or pip goes on without them.
if [ "${1:-run}" = test ]; then
    clients=${CARGO_TARGET_DIR:-target}/clients
    mkdir -p "$clients"
    [ -d "$clients/node_modules/nodemailer" ] || npm install --silent --no-audit --no-fund --prefix "$clients" nodemailer@10 >/dev/null 2>&1 ||
        echo "setup: nodemailer cannot be installed here (npm)" >&2
    [ -x "$clients/python/bin/sslyze" ] ||
        { python3 -m venv "$clients/python" && "$clients/python/bin/pip" --quiet install 'sslyze==6.3.*'; } >/dev/null 2>&1 ||
        echo "setup: sslyze cannot be installed here (pip)" >&2
fi

core/store-rocks/build-rocksdb.sh
