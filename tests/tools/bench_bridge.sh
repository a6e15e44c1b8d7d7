#!/bin/sh
# What a bridge costs and how fast it drains: headgate's and mosquitto's in turns, to the same remote mosquitto.
#
#   bench_bridge.sh [HEADGATE]
#
# By the environment: MESSAGES=100000 PAYLOAD=256 ROUNDS=3. Prints, medians of the rounds: bytes written to disk for each byte of payload with the uplink up and
# down, messages a second while draining, and the latency of messages that come while it drains (with priority at headgate; mosquitto has none).
set -eu
headgate=${1:-target/release/headgate}
messages=${MESSAGES:-100000} payload=${PAYLOAD:-256} rounds=${ROUNDS:-3}
for tool in mosquitto mosquitto_sub mosquitto_pub; do
    PATH=$PATH:/usr/sbin command -v $tool >/dev/null || {
        echo "$tool is missing: apt-get install mosquitto mosquitto-clients" >&2
        exit 1
    }
done
mosquitto=$(PATH=$PATH:/usr/sbin command -v mosquitto)
mkdir -p target
dir=$(mktemp -d "$PWD/target/bridge.XXXXXX")
remote="" ours=""
stop() {
    for pid in $remote $ours; do kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true; done
    remote="" ours=""
}
trap 'stop; rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
near=$((21000 + $$ % 3000 * 2)) far=$((21001 + $$ % 3000 * 2))

answers() { mosquitto_pub -p "$1" -t probe/up -n >/dev/null 2>&1; }
wait_for() {
    tries=0
    until "$@"; do
        tries=$((tries + 1))
        [ $tries -lt 1200 ] || { echo "waited in vain: $*" >&2 && exit 1; }
        sleep 0.05
    done
}

start_remote() {
    printf 'user root\nallow_anonymous true\npersistence false\nlog_type none\nmax_queued_messages 0\nlistener %s 127.0.0.1\n' $far >"$dir/remote"
    "$mosquitto" -c "$dir/remote" >/dev/null 2>&1 &
    remote=$!
    wait_for answers $far
}

start_ours() {
    rm -rf "$dir/data" && mkdir "$dir/data" && chmod 777 "$dir/data"
    case $1 in
    mosquitto)
        cat >"$dir/conf" <<EOF
user root
allow_anonymous true
persistence true
persistence_location $dir/data/
autosave_interval 5
log_type none
max_queued_messages 0
max_queued_bytes 0
listener $near 127.0.0.1
connection up
address 127.0.0.1:$far
topic # out 1
restart_timeout 1
EOF
        "$mosquitto" -c "$dir/conf" >/dev/null 2>&1 &
        ;;
    headgate)
        cat >"$dir/conf" <<EOF
data_dir = "$dir/data"
node = "bench"
mqttsn = []
[log]
level = "error"
[[listeners]]
name = "tcp"
bind = "127.0.0.1:$near"
[[bridges]]
name = "up"
addresses = ["mqtt://127.0.0.1:$far"]
topics = [{ filter = "live/#", qos = 1, priority = 9 }, { filter = "#", qos = 1 }]
uplink = { restart_timeout = { base = "1s", cap = "1s" } }
EOF
        "$headgate" run --config "$dir/conf" &
        ;;
    esac
    ours=$!
    wait_for answers $near
}

written() { sed -n 's/^write_bytes: //p' "/proc/$ours/io"; }

# publish TOPIC: all messages, until each is acknowledged
publish() {
    head -c "$payload" /dev/zero | tr '\0' x >"$dir/payload"
    "$headgate" pub -p $near -t "$1" -q 1 -f "$dir/payload" --repeat "$messages"
}

arrived() { [ "$(wc -l <"$dir/$1")" -ge "$messages" ]; }
connected() {
    case $1 in
    headgate) "$headgate" bridges --json --config "$dir/conf" | grep -q '"state":"connected"' ;;
    *) [ "$(mosquitto_sub -p $far -t '$SYS/broker/connection/#' -C 1 -W 1 2>/dev/null)" = 1 ] ;;
    esac
}

# keep NAME WHAT VALUE
keep() { echo "$3" >>"$dir/values.$1.$2"; }
median() { sort -g "$dir/values.$1.$2" 2>/dev/null | awk '{ v[NR] = $1 } END { print NR ? v[int((NR + 1) / 2)] : "-" }'; }

# one NAME: a round
one() {
    start_remote
    start_ours "$1"
    wait_for connected "$1"
    mosquitto_sub -p $far -t 'up/#' -q 1 -F '%U' >"$dir/up" &
    listener=$!
    sleep 0.3
    before=$(written)
    publish up/x
    wait_for arrived up
    sleep 6 # what is written later counts too
    keep "$1" up "$(awk -v b="$before" -v a="$(written)" -v n=$((messages * payload)) 'BEGIN { printf "%.3f", (a - b) / n }')"
    kill $listener 2>/dev/null || true
    kill "$remote" && wait "$remote" 2>/dev/null || true
    before=$(written)
    publish down/x
    sleep 6
    keep "$1" down "$(awk -v b="$before" -v a="$(written)" -v n=$((messages * payload)) 'BEGIN { printf "%.3f", (a - b) / n }')"
    # The listener is there before the bridge: it has a session at a remote that starts with it.
    start_remote
    mosquitto_sub -p $far -t 'down/#' -q 1 -F '%U' >"$dir/down" &
    listener=$!
    mosquitto_sub -p $far -t 'live/#' -q 1 -F '%U %p' >"$dir/live" &
    live=$!
    (
        while :; do
            mosquitto_pub -p $near -t live/x -q 1 -m "$(date +%s.%N)" 2>/dev/null || exit 0
            sleep 0.02
        done
    ) &
    probes=$!
    wait_for arrived down
    kill $probes 2>/dev/null || true
    sleep 0.5
    kill $listener $live 2>/dev/null || true
    keep "$1" rate "$(sed -n '1p;$p' "$dir/down" | awk -v n="$(wc -l <"$dir/down")" 'NR == 1 { a = $1 } { b = $1 } END { printf "%.0f", n / (b - a) }')"
    # Of what was published from the first drained message on.
    first=$(sed -n 1p "$dir/down") last=$(sed -n '$p' "$dir/down")
    awk -v from="$first" -v to="$last" '$2 >= from && $2 <= to { printf "%.1f\n", ($1 - $2) * 1000 }' "$dir/live" | sort -g >"$dir/late"
    keep "$1" live "$(awk '{ v[NR] = $1 } END { print NR ? v[int((NR + 1) / 2)] : "-" }' "$dir/late")"
    stop
}

round=1
while [ "$round" -le "$rounds" ]; do
    for name in headgate mosquitto; do
        echo "round $round of $rounds: $name" >&2
        one $name
    done
    round=$((round + 1))
done
echo "$messages messages of $payload bytes at QoS 1, medians of $rounds rounds:"
echo
echo "| | headgate | mosquitto |"
echo "|---|---|---|"
echo "| written per byte of payload, uplink up | $(median headgate up) | $(median mosquitto up) |"
echo "| written per byte of payload, uplink down | $(median headgate down) | $(median mosquitto down) |"
echo "| drained, messages a second | $(median headgate rate) | $(median mosquitto rate) |"
echo "| live messages while draining, median ms | $(median headgate live) | $(median mosquitto live) |"
