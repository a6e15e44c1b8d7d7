#!/bin/sh
# What a STOMP message costs: headgate and Debian's RabbitMQ in turns, a fresh broker for each setting, medians of ROUNDS.
#
#   bench_stomp.sh [HEADGATE]        prints the table
#   bench_stomp.sh --write HEADGATE  also puts it into docs/performance.md
#
# By the environment: ROUNDS=3 SECONDS_EACH=2 CLIENTS=20; CASES=regular expression, to run a few cases only; OTHER=none, to measure headgate alone.
# The broker is on core 0, the generator on core 1, where there are two.
set -eu
write=no
[ "${1:-}" != --write ] || { write=yes && shift; }
headgate=${1:-target/release/headgate}
rounds=${ROUNDS:-3} seconds=${SECONDS_EACH:-2} clients=${CLIENTS:-20} wanted=${CASES:-.} brokers="headgate rabbitmq"
[ "${OTHER:-}" != none ] || brokers=headgate
page=$(dirname "$0")/../../docs/performance.md
rabbit=/usr/lib/rabbitmq/bin

. "$(dirname "$0")/debian.sh"
[ "$brokers" = headgate ] || [ -x $rabbit/rabbitmq-server ] || install rabbitmq-server rabbitmq-server >&2

mkdir -p target
dir=$(mktemp -d "$PWD/target/bench.XXXXXX")
broker="" mapper="" name=""
stop() {
    for process in $broker $mapper; do kill "$process" 2>/dev/null && wait "$process" 2>/dev/null || true; done
    broker="" mapper=""
}
trap 'stop; rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
mkdir "$dir/values"
core0="" core1=""
if [ "$(nproc)" != 1 ] && command -v taskset >/dev/null; then core0="taskset -c 0" core1="taskset -c 1"; fi

# What each broker wants of a client.
words() {
    if [ "$name" = rabbitmq ]; then
        echo "--prefix /topic/ --dotted -u guest -P guest"
    fi
}

answers() {
    # shellcheck disable=SC2046 # several words
    "$headgate" bench stomp pairs -c 1 --messages 1 --port "$port" $(words) >/dev/null 2>&1
}

# free_ports: leaves the first of four in $port
port=$((30000 + $$ % 2000 * 4))
taken() { grep -qi ":$(printf %04X "$1") [0-9A-F:]* 0A" /proc/net/tcp /proc/net/tcp6; }
free_ports() {
    port=$((port + 4))
    while taken $port || taken $((port + 1)) || taken $((port + 2)) || taken $((port + 3)); do port=$((port + 4)); done
}

# start BROKER: leaves $broker and $port
start() {
    name=$1
    free_ports
    home=$dir/$name
    rm -rf "$home" && mkdir -p "$home"
    case $name in
    headgate)
        cat >"$home/conf" <<EOF
data_dir = "$home/data"
mqttsn = []
[log]
level = "warn"
[[listeners]]
name = "stomp"
protocol = "stomp"
bind = "127.0.0.1:$port"
EOF
        $core0 "$headgate" run --config "$home/conf" &
        broker=$!
        ;;
    rabbitmq)
        echo '[rabbitmq_stomp].' >"$home/plugins"
        cat >"$home/rabbitmq.conf" <<EOF
listeners.tcp.default = 127.0.0.1:$((port + 1))
stomp.listeners.tcp.default = 127.0.0.1:$port
log.console = false
log.file.level = warning
EOF
        # Everything of it is here: folder, cookie, port mapper, node. The mapper that it would start itself would stay.
        epmd -port $((port + 2)) -address 127.0.0.1 >/dev/null 2>&1 &
        mapper=$!
        env HOME="$home" ERL_EPMD_PORT=$((port + 2)) RABBITMQ_DIST_PORT=$((port + 3)) \
            RABBITMQ_NODENAME="bench$port@localhost" RABBITMQ_MNESIA_BASE="$home/data" RABBITMQ_LOG_BASE="$home/log" \
            RABBITMQ_CONFIG_FILE="$home/rabbitmq.conf" RABBITMQ_ENABLED_PLUGINS_FILE="$home/plugins" RABBITMQ_PID_FILE="$home/pid" \
            $core0 $rabbit/rabbitmq-server >"$home/output" 2>&1 &
        broker=$!
        ;;
    esac
    tries=0
    until answers; do
        tries=$((tries + 1))
        if [ $tries -gt 300 ] || ! kill -0 "$broker"; then
            echo "$name does not start" >&2
            exit 1
        fi
        sleep 0.2
    done
    # The virtual machine is a child of its script.
    pid=$broker
    [ "$name" != rabbitmq ] || pid=$(cat "$home/pid")
}

keep() {
    cat >>"$dir/values/$1.$2"
}

pick() {
    sed -n "s/.*$1\([0-9.]*\).*/\1/p"
}

# measure CASE-NUMBER ARGUMENTS...: one run, into the files of the medians
measure() {
    key=$name.$1
    shift
    # A broken promise is reported and does not end the comparison.
    # shellcheck disable=SC2046 # several words
    $core1 "$headgate" bench stomp "$@" -c "$clients" --seconds "$seconds" --warm-up 0.5 --json --port "$port" --pid "$pid" $(words) \
        >"$dir/run" 2>"$dir/complaints" || sed "s/^/$name: /" "$dir/complaints" >&2
    for field in cpu_s_per_million generator_busy rss_bytes; do pick "\"$field\":" <"$dir/run" | keep "$key" $field; done
    pick '"messages":{"delivered":[0-9]*,"per_second":' <"$dir/run" | keep "$key" per_second
}

# median KEY FIELD: 0 if there is none
median() {
    sort -g "$dir/values/$1.$2" 2>/dev/null |
        awk '{ v[NR] = $1 } END { print NR ? (NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2) : 0 }'
}

echo "pairs --ack auto
pairs --ack client
pairs --ack client-individual
pairs --ack auto --receipts
pairs --ack client --receipts
pairs --ack client-individual --receipts
fan-out --ack auto
fan-in --ack auto" | grep -E -e "$wanted" >"$dir/cases" || { echo "no case is like $wanted" >&2 && exit 1; }

round=1
while [ "$round" -le "$rounds" ]; do
    for one in $brokers; do
        start "$one"
        number=0
        while read -r arguments; do
            number=$((number + 1))
            echo "round $round of $rounds, $name: $arguments" >&2
            # shellcheck disable=SC2086 # several words
            measure $number $arguments </dev/null
        done <"$dir/cases"
        stop
    done
    round=$((round + 1))
done

{
    version=""
    [ "$brokers" = headgate ] || version=", RabbitMQ $(dpkg-query -W -f '${Version}' rabbitmq-server)"
    echo "Measured on $(date -u +%Y-%m-%d), $(nproc) cores, load average at the end $(cut -d' ' -f1 /proc/loadavg); $clients clients, $seconds s a run, medians of $rounds rounds$version."
    echo
    echo "| \`headgate bench stomp\` | headgate CPU s/M | rabbitmq CPU s/M | ratio | headgate a second | rabbitmq a second | ratio | headgate RSS MB | rabbitmq RSS MB | gen |"
    echo "|---|---|---|---|---|---|---|---|---|---|"
    number=0
    while read -r arguments; do
        number=$((number + 1))
        for field in cpu_s_per_million per_second rss_bytes; do
            echo "$(median headgate.$number $field) $(median rabbitmq.$number $field)"
        done | tr '\n' ' ' | awk -v name="$arguments" -v gen="$(median headgate.$number generator_busy)" '
            function ratio(a, b) { return b > 0 ? sprintf("%.3f", a / b) : "-" }
            function some(format, a) { return a > 0 ? sprintf(format, a) : "-" }
            {
                printf "| `%s` | %s | %s | %s | %s | %s | %s | %s | %s | %.0f %% |\n", name, some("%.3f", $1), some("%.3f", $2), ratio($1, $2),
                    some("%.0f", $3), some("%.0f", $4), ($4 > 0 ? sprintf("%.1f", $3 / $4) : "-"), some("%.1f", $5 / 1e6), some("%.1f", $6 / 1e6), gen * 100
            }'
    done <"$dir/cases"
} >"$dir/table"
cat "$dir/table"

if [ $write = yes ]; then
    awk -v table="$dir/table" '
        /<!-- measured: STOMP -->/ { print; while ((getline line < table) > 0) print line; skip = 1; next }
        /<!-- end: STOMP -->/ { skip = 0 }
        !skip' "$page" >"$dir/page"
    cat "$dir/page" >"$page"
fi
