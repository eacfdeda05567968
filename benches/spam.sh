#!/bin/sh
# CPU of judging a message: spam-score in Waypost's host, and Rspamd, taught by the same four fifths and asked about the same fifth.
#
#   benches/spam.sh HAM_FOLDER SPAM_FOLDER
#
# One message a file. Rspamd (Debian: rspamd, redis-server) runs with its own rules and Bayes, without network tests; counted is its scanning worker
# alone, not Redis and not the protocol's other end. Of Waypost is counted the whole process `waypost spam score`: reading the files, MIME, the
# plugin, the store on disk; less what it takes to start (`waypost spam stats`). Needs curl; run it where nothing else is called rspamd.
set -eu
[ $# -eq 2 ] || { sed -n 2,9p "$0"; exit 2; }
HAM=$(realpath "$1") SPAM=$(realpath "$2")
WAYPOST=${WAYPOST:-${CARGO_TARGET_DIR:-target}/release/waypost}
WORK=$(mktemp -d)
cleanup() {
    [ -z "${RSPAMD:-}" ] || kill "$RSPAMD" 2>/dev/null || true
    [ -z "${REDIS:-}" ] || kill "$REDIS" 2>/dev/null || true
    rm -rf "$WORK"
}
trap cleanup EXIT

# Every fifth message is kept apart. The first line of an mbox message is no header.
for kind in ham spam; do
    mkdir -p "$WORK/learn/$kind" "$WORK/judge/$kind"
    [ $kind = ham ] && from=$HAM || from=$SPAM
    number=0
    for file in "$from"/*; do
        part=learn; [ $((number % 5)) -ne 0 ] || part=judge
        sed '1{/^From /d}' "$file" > "$WORK/$part/$kind/$number.eml"
        number=$((number + 1))
    done
done
COUNT=$(find "$WORK/judge" -name '*.eml' | wc -l)

echo "== Waypost"
cat > "$WORK/waypost.toml" <<CONFIG
hostname = "mx.example.com"
data = "$WORK/data"
[domains]
own = ["example.com"]
[listener.mx]
preset = "mx"
bind = "127.0.0.1:22525"
[admin]
bind = "127.0.0.1:22526"
[plugins]
chain = ["spam-score"]
[plugin.spam-score]
isolation = "pooled"
grants = ["kv"]
CONFIG
waypost() { "$WAYPOST" spam "$@" --config "$WORK/waypost.toml"; }
waypost learn --ham "$WORK/learn/ham" | tail -1
waypost learn --spam "$WORK/learn/spam" | tail -1
# The milliseconds of CPU that a command takes.
cpu() { bash -c 'TIMEFORMAT="%U %S"; time "$@" > /dev/null' cpu "$@" 2>&1 | awk '{print ($1 + $2) * 1000}'; }
START=$(cpu "$WAYPOST" spam stats --config "$WORK/waypost.toml")
ALL=$(cpu "$WAYPOST" spam score --json "$WORK/judge" --config "$WORK/waypost.toml")
for kind in ham spam; do
    waypost score --json "$WORK/judge/$kind" > "$WORK/$kind.json"
    echo "$kind: $(grep -c '"spam":true' "$WORK/$kind.json" || true) of $(wc -l < "$WORK/$kind.json") called spam"
done
echo "CPU: $(echo "$ALL $START $COUNT" | awk '{printf "%.3f", ($1 - $2) / $3}') ms a message"

echo "== Rspamd"
mkdir -p "$WORK/db" "$WORK/run"
cp -r /etc/rspamd "$WORK/etc"
mkdir -p "$WORK/etc/local.d"
put() { printf '%s\n' "$2" > "$WORK/etc/local.d/$1"; }
put classifier-bayes.conf 'backend = "redis"; servers = "127.0.0.1:22527"; min_learns = 100; autolearn = false;'
put redis.conf 'servers = "127.0.0.1:22527";'
put worker-normal.inc 'bind_socket = "127.0.0.1:22528"; count = 1;'
put worker-controller.inc 'bind_socket = "127.0.0.1:22529"; secure_ip = "127.0.0.1";'
put worker-proxy.inc 'enabled = false;'
put worker-fuzzy.inc 'enabled = false;'
put options.inc 'dns { nameserver = ["127.0.0.1:9"]; timeout = 0.1s; retransmits = 1; }'
put logging.inc "type = \"file\"; filename = \"$WORK/rspamd.log\"; level = \"error\";"
for module in rbl surbl fuzzy_check asn url_redirector greylist ratelimit dkim_signing history_redis neural replies spf dkim dmarc arc; do
    put $module.conf 'enabled = false;'
done
redis-server --port 22527 --save '' --dir "$WORK" > /dev/null & REDIS=$!
rspamd -f -i --var=CONFDIR="$WORK/etc" --var=LOCAL_CONFDIR="$WORK/etc" --var=DBDIR="$WORK/db" --var=RUNDIR="$WORK/run" \
    --var=LOGDIR="$WORK" -c "$WORK/etc/rspamd.conf" > /dev/null 2>&1 & RSPAMD=$!
until curl -s -o /dev/null http://127.0.0.1:22528/ping; do sleep 1; done
for kind in ham spam; do
    for file in "$WORK/learn/$kind"/*; do
        curl -s -o /dev/null --data-binary "@$file" http://127.0.0.1:22529/learn$kind
    done
done
worker() { for pid in $(pgrep -P "$RSPAMD"); do ! tr '\0' ' ' < /proc/$pid/cmdline | grep -q 'normal process' || cut -d' ' -f1 < /proc/$pid/schedstat; done; }
scan() { for file in "$WORK/judge/$1"/*; do curl -s --data-binary "@$file" -H 'IP: 198.51.100.7' http://127.0.0.1:22528/checkv2; echo; done; }
# Once unmeasured: its expressions are compiled in the background at first.
scan ham > /dev/null
BEFORE=$(worker)
for kind in ham spam; do
    scan $kind > "$WORK/$kind.rspamd"
done
AFTER=$(worker)
for kind in ham spam; do
    flagged=$(grep -o '"score":[-0-9.]*,"required_score"' "$WORK/$kind.rspamd" | sed 's/[^-0-9.]//g' | awk '$1 >= 6 { n++ } END { print n + 0 }')
    echo "$kind: $flagged of $(grep -c . "$WORK/$kind.rspamd") at 6 or more"
done
echo "CPU: $(echo "$AFTER $BEFORE $COUNT" | awk '{printf "%.3f", ($1 - $2) / $3 / 1e6}') ms a message"
