#!/bin/bash
# The queue beside Postfix's, in one run: who is treated how when a receiver limits, when a mailing is ahead, and after an outage.
#
#   benches/queue.sh [limited|urgent|outage]…        all three otherwise
#
# limited   a receiver takes 10 connections and greets every further one with 421: how much mail is deferred at least once (Postfix's own experiment for
#           its concurrency feedback)
# urgent    a mailing of MAILING recipients at one destination is ahead: how long one message to the same destination takes
# outage    QUEUED messages wait for a destination that was down: from "go" until the last has arrived
#
# MAILING and QUEUED are 100 000; smaller numbers in the environment make it shorter. Needs root (Postfix), Debian's postfix, and the release build of
# waypost and waypost-bench (BIN names their folder). Both servers sync every message before they acknowledge it; Postfix has its defaults but for its ports,
# sinks that take their time and no waiting between retries is asked of either.
set -euo pipefail
cd "$(dirname "$0")/.."
BIN=${BIN:-target/release}
MAILING=${MAILING:-100000}
QUEUED=${QUEUED:-100000}
SERVERS=${SERVERS:-waypost postfix}
[ "$(id -u)" = 0 ] || { echo "queue.sh: only root can start Postfix" >&2; exit 1; }
for program in "$BIN/waypost" "$BIN/waypost-bench" /usr/sbin/postfix; do
    [ -x "$program" ] || { echo "queue.sh: $program is missing" >&2; exit 1; }
done
BIN=$(realpath "$BIN")
work=$(mktemp -d /tmp/waypost-queue-XXXXXX)
chmod 755 "$work"
sink_pid= server=
finish() {
    stop_server || true
    [ -z "$sink_pid" ] || kill "$sink_pid" 2>/dev/null || true
    rm -rf "$work" /var/log/waypost-queue-postfix.log
}
trap finish EXIT

port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
now() { date +%s.%N; }
since() { python3 -c "import time, sys; print(f'{time.time() - float(sys.argv[1]):.1f}')" "$1"; }
# A receiver; what it has taken stands in $work/taken.
sink() { : > "$work/taken"; "$BIN/waypost-bench" sink "127.0.0.1:$to" "$@" > "$work/taken" 2>&1 & sink_pid=$!; }
taken() { tail -n 1 "$work/taken" | grep -E '^[0-9]+$' || echo 0; }
# Waits until the receiver has taken so many, at most so many seconds.
await() { for _ in $(seq $(($2 * 10))); do [ "$(taken)" -lt "$1" ] || return 0; sleep 0.1; done; return 1; }
listening() { for _ in $(seq 300); do (exec 3<> "/dev/tcp/127.0.0.1/$1") 2>/dev/null && return 0; sleep 0.1; done; echo "queue.sh: nobody listens at $1" >&2; exit 1; }

start_waypost() {
    rm -rf "$work/data"
    "$BIN/waypost" run --data "$work/data" --set 'listener.mx.preset=relay' --set 'relay.networks=["127.0.0.0/8"]' \
        --set "listener.mx.bind=[\"127.0.0.1:$at\"]" --set "listener.submission.bind=[\"127.0.0.1:$(port)\"]" \
        --set "listener.submissions.bind=[\"127.0.0.1:$(port)\"]" --set "admin.bind=[\"127.0.0.1:$(port)\"]" --set 'listener.mx.recipients=1000' \
        --set 'listener.mx.connections-per-address=1000' --set 'log.format=json' --set "transport.\"*\"=\"smtp:[127.0.0.1]:$to\"" \
        > "$work/log" 2>&1 &
    server_pid=$!
}
start_postfix() {
    rm -rf "$work"/{etc,spool,lib} /var/log/waypost-queue-postfix.log
    mkdir "$work"/{etc,spool,lib}
    chown postfix "$work/lib"
    cat > "$work/etc/main.cf" <<CF
compatibility_level = 3.6
queue_directory = $work/spool
data_directory = $work/lib
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
myhostname = bench.example
inet_interfaces = 127.0.0.1
mynetworks = 127.0.0.0/8
relayhost = [127.0.0.1]:$to
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_client_connection_count_limit = 0
smtp_tls_security_level = none
maillog_file = /var/log/waypost-queue-postfix.log
CF
    awk '/^[^ \t#]/ && NF >= 8 { $5 = "n" } !/^smtp +inet/' /usr/share/postfix/master.cf.dist > "$work/etc/master.cf"
    echo "127.0.0.1:$at inet n - n - 200 smtpd" >> "$work/etc/master.cf"
    postfix -c "$work/etc" start > /dev/null 2>&1
}
start_server() { server=$1; at=$(port) to=$(port); "start_$1"; listening "$at"; }
stop_server() {
    case $server in
        waypost) kill -TERM "$server_pid"; wait "$server_pid" 2>/dev/null ;;
        postfix) postfix -c "$work/etc" stop > /dev/null 2>&1 ;;
    esac
    server=
}
stop_sink() { kill "$sink_pid"; wait "$sink_pid" 2>/dev/null || true; sink_pid=; }
go() {
    case $server in
        waypost) "$BIN/waypost" queue retry --all --data "$work/data" --set "admin.bind=$(admin)" > /dev/null ;;
        postfix) postconf -c "$work/etc" -X defer_transports; postfix -c "$work/etc" reload > /dev/null 2>&1; postqueue -c "$work/etc" -f ;;
    esac
}
admin() { tr '\0' '\n' < "/proc/$server_pid/cmdline" | sed -n 's/^admin.bind=//p'; }
source_to() { "$BIN/waypost-bench" source "127.0.0.1:$at" "$@" > "$work/source" 2>&1 || { cat "$work/source" >&2; exit 1; }; }
# Messages of which at least one attempt was put off.
deferred() {
    case $server in
        waypost) grep '"outcome":"delayed"' "$work/log" | grep -o '"id":"[^"]*"' | sort -u | wc -l ;;
        postfix) grep 'status=deferred' /var/log/waypost-queue-postfix.log | sed 's/.*\]: \([0-9A-Za-z]*\): to=.*/\1/' | sort -u | wc -l ;;
    esac
}
# One message by hand: its sender's mailing, its recipients from standard input, one a line.
hand_in() {
    python3 - "$at" "$1" <<'PY'
import smtplib, sys
with open(sys.argv[2]) as file:
    recipients = file.read().split()
with smtplib.SMTP('127.0.0.1', int(sys.argv[1])) as smtp:
    for at in range(0, len(recipients), 1000):
        smtp.sendmail('list@bench.example' if len(recipients) > 1 else 'user@bench.example', recipients[at:at + 1000], 'Subject: x\r\n\r\n' + 'x' * 1000 + '\r\n')
PY
}

limited() {
    start_server "$1"
    sink --connections-max 10 --delay 25
    source_to --sessions 20 --messages 5000 --bytes 2000
    # Nothing that was put off comes round within a minute.
    for _ in $(seq 60); do [ $(($(taken) + $(deferred))) -lt 5000 ] || break; sleep 1; done
    printf '%-8s  limited: %5.1f %% of 5000 messages deferred (%s), %s taken at once\n' "$1" \
        "$(python3 -c "print($(deferred) / 50)")" "$(deferred)" "$(taken)"
    stop_sink; stop_server
}

urgent() {
    start_server "$1"
    # Slow enough that most of the mailing is still there when the urgent one comes.
    sink --delay 500
    seq "$MAILING" | sed 's/.*/r&@elsewhere.example/' > "$work/mailing"
    echo 'urgent@elsewhere.example' > "$work/urgent"
    hand_in "$work/mailing"
    ahead=$(($(taken)))
    hand_in "$work/urgent"
    for _ in $(seq 1200); do
        case $1 in
            waypost) line=$(grep '"recipient":"urgent@' "$work/log" | grep '"event":"attempted"' | tail -n 1 || true) ;;
            postfix) line=$(grep 'to=<urgent@' /var/log/waypost-queue-postfix.log | tail -n 1 || true) ;;
        esac
        [ -z "$line" ] || break
        sleep 0.1
    done
    took=$(echo "$line" | sed -n 's/.*"age":\([0-9.e-]*\).*/\1/p; s/.* delay=\([0-9.]*\),.*/\1/p')
    printf '%-8s  urgent: %.2f s behind a mailing of %s recipients (%s transactions of it through)\n' "$1" "${took:-120}" "$MAILING" "$ahead"
    stop_sink; stop_server
}

outage() {
    start_server "$1"
    [ "$1" = waypost ] || { postconf -c "$work/etc" defer_transports=smtp; postfix -c "$work/etc" reload > /dev/null 2>&1; sleep 1; }
    begun=$(now)
    source_to --sessions 50 --messages "$QUEUED" --bytes 2000
    taking=$(since "$begun")
    sleep 5
    sink
    sleep 0.5
    begun=$(now)
    go
    if await "$QUEUED" 280; then drained=$(since "$begun"); else drained="over 280 ($(taken) through)"; fi
    printf '%-8s  outage: %s messages taken in in %s s while the destination was down; drained in %s s\n' "$1" "$QUEUED" "$taking" "$drained"
    stop_sink; stop_server
}

"$BIN/waypost" version
echo "Postfix $(postconf -dh mail_version)"
for what in "${@:-limited urgent outage}"; do for one in $what; do for each in $SERVERS; do "$one" "$each"; done; done; done
