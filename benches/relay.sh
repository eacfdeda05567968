#!/bin/bash
# CPU per message of a plain relay: Postfix's own load generator → server → Postfix's own sink, Waypost against Postfix in the same run.
#
#   benches/relay.sh [MESSAGES] [SESSIONS] [BYTES]      default 5000 50 10240
#
# Waypost runs as `make run` starts it (RocksDB, every message synced before its 250, four plugins loaded), with its `mx` listener turned into
# a relay for loopback. CPU is user + system time of all of a server's processes, read from /proc before and after. Needs root for Postfix,
# which is started with a configuration of its own in a temporary folder; without root, or without Postfix, only Waypost is measured.
set -euo pipefail
cd "$(dirname "$0")/.."
messages=${1:-5000} sessions=${2:-50} bytes=${3:-10240}
binary=${WAYPOST:-target/release/waypost}
work=$(mktemp -d)
sink_port=$((20000 + RANDOM % 5000)) in_port=$((25000 + RANDOM % 5000)) postfix_port=$((30000 + RANDOM % 2000))
pids=()
finish() {
    for pid in "${pids[@]:-}"; do kill "$pid" 2>/dev/null || true; done
    [ -d "$work/postfix" ] && postfix -c "$work/postfix/etc" stop >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap finish EXIT

ticks=$(getconf CLK_TCK)
# User + system ticks of the processes named by pid, and of their children that have ended.
cpu() { local sum=0 t; for p in "$@"; do t=$(awk '{sub(/^.*\) /, ""); print $12 + $13 + $14 + $15}' "/proc/$p/stat" 2>/dev/null || echo 0); sum=$((sum + ${t:-0})); done; echo "$sum"; }
tree() { local p; for p in "$@"; do echo "$p"; tree $(pgrep -P "$p" || true); done; }
listening() { for _ in $(seq 200); do (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return; sleep 0.05; done; echo "nothing listens on $1" >&2; cat "$work"/*.log >&2; exit 1; }
# name, port, root pid
measure() {
    local name=$1 port=$2 root=$3 before after start end
    smtp-sink -u nobody -c "127.0.0.1:$sink_port" 1000 >"$work/sink.log" 2>&1 & local sink=$!
    pids+=("$sink"); listening "$sink_port"
    before=$(cpu $(tree "$root")); start=$(date +%s.%N)
    smtp-source -s "$sessions" -m "$messages" -l "$bytes" -f a@client.example -t user@elsewhere.example "127.0.0.1:$port"
    local arrived=0
    for _ in $(seq 1200); do
        arrived=$(tr '\r' '\n' <"$work/sink.log" | grep -oE '[0-9]+' | tail -1 || echo 0)
        [ "${arrived:-0}" -ge "$messages" ] && break; sleep 0.05
    done
    after=$(cpu $(tree "$root")); end=$(date +%s.%N)
    kill "$sink"; wait "$sink" 2>/dev/null || true
    awk -v n="$name" -v m="$messages" -v a="$arrived" -v c="$((after - before))" -v t="$ticks" -v s="$start" -v e="$end" \
        -v pss="$(for p in $(tree "$root"); do awk '/^Pss:/{print $2}' "/proc/$p/smaps_rollup" 2>/dev/null; done | awk '{s+=$1} END{print s/1024}')" \
        'BEGIN{printf "%-10s %6d of %d arrived   %.3f ms CPU a message   %.0f messages/s   %.0f MiB (PSS)\n", n, a, m, c * 1000 / t / m, m / (e - s), pss}'
}

"$binary" run --data "$work/data" --set "listener.mx.bind=[\"127.0.0.1:$in_port\"]" --set listener.mx.preset=relay \
    --set 'relay.networks=["127.0.0.0/8"]' --set "transport.\"*\"=\"smtp:[127.0.0.1]:$sink_port\"" \
    --set "listener.submission.bind=[\"127.0.0.1:$((in_port + 5000))\"]" --set "listener.submissions.bind=[\"127.0.0.1:$((in_port + 5001))\"]" \
    --set "admin.bind=[\"127.0.0.1:$((in_port + 5002))\"]" --set log.format=json ${WAYPOST_ARGS:-} >"$work/waypost.log" 2>&1 &
waypost=$!; pids+=("$waypost"); listening "$in_port"
echo "smtp-source -s $sessions -m $messages -l $bytes → server → smtp-sink; $(nproc) cores, $(git rev-parse --short HEAD 2>/dev/null || echo 'no commit')"
measure waypost "$in_port" "$waypost" # warm-up counts too: shown first
measure waypost "$in_port" "$waypost"

if [ "$(id -u)" = 0 ] && command -v postfix >/dev/null; then
    mkdir -p "$work/postfix"/{etc,spool,data}
    chmod 755 "$work" "$work/postfix"; chown postfix "$work/postfix/data"
    cat >"$work/postfix/etc/main.cf" <<CF
compatibility_level = 3.6
queue_directory = $work/postfix/spool
data_directory = $work/postfix/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
myhostname = bench.example
inet_interfaces = 127.0.0.1
mynetworks = 127.0.0.0/8
relayhost = [127.0.0.1]:$sink_port
smtpd_relay_restrictions = permit_mynetworks, reject
smtp_tls_security_level = none
default_destination_concurrency_limit = 50
maillog_file = /var/log/waypost-bench-postfix.log
CF
    sed -e 's/^smtp      inet.*//' /usr/share/postfix/master.cf.dist >"$work/postfix/etc/master.cf"
    echo "127.0.0.1:$postfix_port inet n - n - 200 smtpd" >>"$work/postfix/etc/master.cf"
    sed -i -E 's/^(pickup|cleanup|qmgr|rewrite|bounce|defer|trace|verify|flush|proxymap|proxywrite|smtp|relay|showq|error|retry|discard|local|virtual|lmtp|anvil|scache|tlsmgr|postlog)( +unix(-dgram)? +[^ ]+ +[^ ]+ +)y/\1\2n/' "$work/postfix/etc/master.cf"
    postfix -c "$work/postfix/etc" start >"$work/postfix.log" 2>&1 || cat "$work/postfix.log"
    listening "$postfix_port"
    measure postfix "$postfix_port" "$(head -1 "$work/postfix/spool/pid/master.pid" | tr -d ' ')"
fi
