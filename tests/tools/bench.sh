#!/bin/sh
# What a message, a subscription and a connection cost: headgate and Debian's mosquitto in turns, a fresh broker for each
# run, medians of ROUNDS.
#
#   bench.sh [HEADGATE]        prints the tables
#   bench.sh --write HEADGATE  also puts them into docs/performance.md
#
# By the environment: ROUNDS=3 SECONDS_EACH=2 CLIENTS=100; CASES=regular expression, to run a few cases only; SETTINGS="pinned free"; BASELINE=another
# headgate, to compare with instead of mosquitto. `pinned` has the broker on core 0 and the generator on core 1, `free` leaves both to the kernel.
set -eu
write=no
[ "${1:-}" != --write ] || { write=yes && shift; }
headgate=${1:-target/release/headgate}
rounds=${ROUNDS:-3} seconds=${SECONDS_EACH:-2} clients=${CLIENTS:-100} wanted=${CASES:-.} baseline=${BASELINE:-}
page=$(dirname "$0")/../../docs/performance.md

# Connections are files, for us and for the brokers.
ulimit -n "$(ulimit -Hn)"
idle=19000
[ "$(ulimit -n)" = unlimited ] || [ "$(ulimit -n)" -ge 20000 ] || idle=$(($(ulimit -n) - 1000))

. "$(dirname "$0")/debian.sh"
command -v openssl >/dev/null || install mosquitto openssl
if [ -n "$baseline" ]; then
    other=baseline version="against $baseline"
else
    PATH=$PATH:/usr/sbin command -v mosquitto >/dev/null || install mosquitto mosquitto
    mosquitto=$(PATH=$PATH:/usr/sbin command -v mosquitto)
    other=mosquitto version="mosquitto $("$mosquitto" -h | sed -n 's/^mosquitto version //p')"
fi

# On a disk, for one of the two writes to it.
mkdir -p target
dir=$(mktemp -d "$PWD/target/bench.XXXXXX")
broker=""
stop() {
    [ -z "$broker" ] || { kill "$broker" 2>/dev/null && wait "$broker" 2>/dev/null || true; }
    broker=""
}
trap 'stop; rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
mkdir "$dir/values"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
    -keyout "$dir/key" -out "$dir/certificate" 2>/dev/null

settings=${SETTINGS:-pinned free}
if [ "$(nproc)" = 1 ] || ! command -v taskset >/dev/null; then settings=free; fi

answers() {
    "$headgate" bench connect --messages 1 --window 1 --port "$1" >/dev/null 2>&1
}

# free_ports: leaves the first of three in $port, for TCP, TLS and WebSocket
port=$((20000 + $$ % 3000 * 3))
free_ports() {
    port=$((port + 3))
    while answers $port || answers $((port + 1)) || answers $((port + 2)); do port=$((port + 3)); done
}

# start BROKER CASE: leaves $broker and $port
start() {
    free_ports
    home=$dir/$1
    rm -rf "$home" && mkdir -p "$home"
    case $1 in
    mosquitto)
        # Its queues are not limited, for otherwise it drops acknowledged messages in fan-in.
        cat >"$home/conf" <<EOF
user root
allow_anonymous true
persistence false
log_type none
max_queued_messages 0
max_queued_bytes 0
listener $port 127.0.0.1
listener $((port + 1)) 127.0.0.1
certfile $dir/certificate
keyfile $dir/key
EOF
        case $2 in
        *--ws*) printf 'listener %s 127.0.0.1\nprotocol websockets\n' $((port + 2)) >>"$home/conf" ;;
        # As many under way as headgate has.
        offline*) echo "max_inflight_messages 100" >>"$home/conf" ;;
        esac
        $broker_core "$mosquitto" -c "$home/conf" >/dev/null 2>&1 &
        ;;
    *)
        program=$headgate
        [ "$1" = headgate ] || program=$baseline
        cat >"$home/conf" <<EOF
data_dir = "$home/data"
[log]
level = "warn"
[bus]
max_queued_messages = 100000000
max_queued_bytes = 100000000000
max_total_queued_bytes = 0
[store]
max_bytes = 0
[[listeners]]
name = "tcp"
bind = "127.0.0.1:$port"
[[listeners]]
name = "tls"
kind = "tls"
bind = "127.0.0.1:$((port + 1))"
tls = { certificate = "$dir/certificate", key = "$dir/key" }
[[listeners]]
name = "ws"
kind = "ws"
bind = "127.0.0.1:$((port + 2))"
EOF
        $broker_core "$program" run --config "$home/conf" &
        ;;
    esac
    broker=$!
    tries=0
    until answers "$port"; do
        tries=$((tries + 1))
        if [ $tries -gt 100 ] || ! kill -0 "$broker"; then
            echo "$1 does not start" >&2
            exit 1
        fi
        sleep 0.1
    done
}

# keep KEY FIELD: the value on standard input, if there is one, for the median
keep() {
    cat >>"$dir/values/$1.$2"
}

# pick PATTERN: the number that the JSON on standard input has behind it
pick() {
    sed -n "s/.*$1\([0-9.]*\).*/\1/p"
}

# measure BROKER SETTING CASE-NUMBER ARGUMENTS...: one run, into the files of the medians
measure() {
    name=$1 setting=$2 number=$3
    shift 3
    if [ "$setting" = pinned ]; then
        broker_core="taskset -c 0" own_core="taskset -c 1"
    else
        broker_core="" own_core=""
    fi
    start "$name" "$*"
    to=$port
    case "$*" in *--tls*) to=$((port + 1)) ;; *--ws*) to=$((port + 2)) ;; esac
    case "$*" in
    empty) awk '/^VmRSS:/ { printf "{\"rss_bytes_each\":%d}\n", $2 * 1024 }' "/proc/$broker/status" >"$dir/run" ;;
    *)
        # A broken promise is reported and does not end the comparison.
        # shellcheck disable=SC2086 # empty, or three words
        $own_core "$headgate" bench "$@" --json --port "$to" --pid "$broker" \
            >"$dir/run" 2>"$dir/complaints" || sed "s/^/$name: /" "$dir/complaints" >&2
        ;;
    esac
    stop
    part=1
    while read -r report; do
        key=$name.$setting.$number.$part
        for field in cpu_s_per_million cpu_us_per_publish generator_busy rss_bytes rss_bytes_each p50 p99 p999 \
            delivered payload written_bytes; do
            echo "$report" | pick "\"$field\":" | keep $key $field
        done
        echo "$report" | pick '"messages":{"delivered":[0-9]*,"per_second":' | keep $key per_second
        echo "$report" | pick '"connections":{"made":[0-9]*,"per_second":' | keep $key per_second
        echo "$report" | pick '"subscriptions":{"made":[0-9]*,"per_second":' | keep $key subscribed
        part=$((part + 1))
    done <"$dir/run"
}

# median KEY FIELD: 0 if there is none
median() {
    cat "$dir/values/$1.$2" 2>/dev/null | sort -g |
        awk '{ v[NR] = $1 } END { print NR ? (NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2) : 0 }'
}

# both SETTING CASE-NUMBER.PART FIELDS...: medians of each field, headgate's and the other's
both() {
    at=$1 which=$2
    shift 2
    for what in "$@"; do echo "$(median "headgate.$at.$which" "$what") $(median "$other.$at.$which" "$what")"; done | tr '\n' ' '
}

few="--seconds $seconds --warm-up 0.5"
all="pairs -q 0 -c $clients $few
pairs -q 0 --backlog 1 -c $clients $few
pairs -q 1 -c $clients $few
pairs -q 2 -c $clients $few
fan-in -q 0 -c $clients $few
fan-in -q 1 -c $clients $few
fan-out -q 0 -c $clients $few
fan-out -q 1 -c $clients $few
pairs -q 1 --rate 5000 -c $clients $few
pairs -q 0 --tls --insecure -c $clients $few
pairs -q 1 --tls --insecure -c $clients $few
pairs -q 0 --ws -c 20 $few
pairs -q 1 --durable -c 1 --window 200 --backlog 200 --payload 256 $few
offline -q 1 -c 1 --window 200 --payload 256
retained -q 0 --messages 2000 -c $clients
wildcards -c $clients $few
connect --seconds $seconds
connect --tls --insecure --seconds $seconds
idle -c $idle --seconds 1
empty"
echo "$all" | grep -E -e "$wanted" >"$dir/cases" || { echo "no case is like $wanted" >&2 && exit 1; }

if [ $other = mosquitto ] && ! grep -q mosq_websockets_init "$mosquitto"; then
    echo "this mosquitto has no WebSocket: it has a zero there" >&2
    no_websocket=yes
fi

begun=$(date +%s)
for setting in $settings; do
    round=1
    while [ "$round" -le "$rounds" ]; do
        number=0
        while read -r arguments; do
            number=$((number + 1))
            # Memory is the same wherever it runs, and takes long: once.
            case $arguments in idle*) [ "$round" = 1 ] && [ "$setting" = "${settings%% *}" ] || continue ;; esac
            case $arguments in empty*) [ "$setting" = "${settings%% *}" ] || continue ;; esac
            echo "$(($(date +%s) - begun)) s, $setting, round $round of $rounds: $arguments" >&2
            for name in headgate $other; do
                case "$name $arguments" in "mosquitto "*--ws*) [ -z "${no_websocket:-}" ] || continue ;; esac
                # shellcheck disable=SC2086 # several words are meant
                measure $name "$setting" $number $arguments </dev/null
            done
        done <"$dir/cases"
        round=$((round + 1))
    done
done

# label ARGUMENTS: without what is the same for all
label() {
    echo "$1" | sed -e "s/ -c $clients\b//" -e "s/ $few//" -e 's/ --insecure//' -e "s/ --seconds [0-9.]*//"
}

# message_rows SETTING: a row for each case whose messages or connections are counted
message_rows() {
    number=0
    while read -r arguments; do
        number=$((number + 1))
        for part in 1 2; do
            [ -s "$dir/values/headgate.$1.$number.$part.per_second" ] || continue
            name="\`$(label "$arguments")\`"
            case $arguments$part in
            idle*) continue ;;
            offline*1) name="$name: store" ;;
            offline*2) name="$name: drain" ;;
            esac
            # Elsewhere it is the length of a queue.
            late=no
            case $arguments in *--rate* | *'--backlog 1 '* | connect*) late=yes ;; esac
            both "$1" $number.$part cpu_s_per_million per_second p50 p99 p999 rss_bytes generator_busy | awk -v name="$name" -v late=$late '
                function ratio(a, b) { return b > 0 ? sprintf("%.2f", a / b) : "-" }
                function some(format, a) { return a > 0 ? sprintf(format, a) : "-" }
                function times(a, b, c) { return late == "yes" && a > 0 ? sprintf("%.2f / %.2f / %.2f", a / 1000, b / 1000, c / 1000) : "-" }
                {
                    printf "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %.0f %% |\n",
                        name, some("%.3f", $1), some("%.3f", $2), ratio($1, $2), some("%.0f", $3), some("%.0f", $4), ratio($3, $4),
                        times($5, $7, $9), times($6, $8, $10), some("%.1f", $11 / 1e6), some("%.1f", $12 / 1e6), $13 * 100
                }'
        done
    done <"$dir/cases"
}

# state_row NAME FORMAT: a row of two numbers on standard input
state_row() {
    awk -v name="$1" -v format="$2" '$1 > 0 || $2 > 0 {
        printf "| %s | %s | %s | %s |\n", name, sprintf(format, $1), sprintf(format, $2), ($2 > 0 ? sprintf("%.2f", $1 / $2) : "-") }'
}

# state_rows: what is not counted by messages
state_rows() {
    number=0
    while read -r arguments; do
        number=$((number + 1))
        for setting in $settings; do
            at="$setting $number.1"
            name="\`$(label "$arguments")\`, $setting"
            case $arguments in
            # shellcheck disable=SC2086 # two words
            wildcards*)
                both $at cpu_us_per_publish | state_row "$name: CPU µs per publish" %.1f
                both $at subscribed | state_row "$name: subscriptions a second" %.0f
                both $at rss_bytes_each | state_row "$name: bytes per subscription" %.0f
                ;;
            # shellcheck disable=SC2086 # two words
            idle*) both $at rss_bytes_each | state_row "$name: bytes per connection" %.0f ;;
            # shellcheck disable=SC2086 # two words
            empty) both $at rss_bytes_each | awk '{ print $1 / 1e6, $2 / 1e6 }' | state_row "empty broker: RSS MB" %.1f ;;
            offline* | *--durable*)
                for part in 1 2; do
                    both "$setting" $number.$part written_bytes delivered payload |
                        awk '$3 > 0 && $4 > 0 { print $1 / $3 / $5, $2 / $4 / $6 }' |
                        state_row "$name$(case $arguments$part in offline*1) echo ' (store)' ;; offline*2) echo ' (drain)' ;; esac): bytes written per byte of payload" %.2f
                done
                ;;
            esac
        done
    done <"$dir/cases"
}

{
    echo "Measured on $(date -u +%Y-%m-%d), $(nproc) cores, load average at the end $(cut -d' ' -f1 /proc/loadavg); $clients clients, $seconds s a run, medians of $rounds rounds, $version."
    for setting in $settings; do
        echo
        case $setting in
        pinned) echo "Broker on core 0, generator on core 1:" ;;
        *) echo "Both where the kernel puts them:" ;;
        esac
        echo
        echo "| \`headgate bench\` | headgate CPU s/M | $other CPU s/M | ratio | headgate a second | $other a second | ratio | headgate p50 / p99 / p99.9 ms | $other p50 / p99 / p99.9 ms | headgate RSS MB | $other RSS MB | gen |"
        echo "|---|---|---|---|---|---|---|---|---|---|---|---|"
        message_rows "$setting"
    done
    echo
    echo "| state | headgate | $other | ratio |"
    echo "|---|---|---|---|"
    state_rows
} >"$dir/table"
cat "$dir/table"

if [ $write = yes ]; then
    awk -v table="$dir/table" '
        /<!-- measured -->/ { print; while ((getline line < table) > 0) print line; skip = 1; next }
        /<!-- end -->/ { skip = 0 }
        !skip' "$page" >"$dir/page"
    cat "$dir/page" >"$page"
fi
