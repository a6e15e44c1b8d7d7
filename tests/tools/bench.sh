#!/bin/sh
# What a delivered message costs: headgate and Debian's mosquitto in turns, a fresh broker for each run, medians of ROUNDS.
#
#   bench.sh [HEADGATE]        prints the table
#   bench.sh --write HEADGATE  also puts it into docs/performance.md
#
# ROUNDS=3 SECONDS_EACH=5 CLIENTS=100 may be changed by the environment. Brokers run on core 0, the generator on core 1.
set -eu
write=no
[ "${1:-}" != --write ] || { write=yes && shift; }
headgate=${1:-target/release/headgate}
rounds=${ROUNDS:-3} seconds=${SECONDS_EACH:-5} clients=${CLIENTS:-100}
page=$(dirname "$0")/../../docs/performance.md

if ! PATH=$PATH:/usr/sbin command -v mosquitto >/dev/null; then
    sudo=""
    [ "$(id -u)" = 0 ] || sudo="sudo -n"
    # The package would start a broker of its own: that is forbidden while it is installed.
    policy=/usr/sbin/policy-rc.d
    ours=no
    if [ ! -e $policy ]; then
        ours=yes
        printf '#!/bin/sh\nexit 101\n' | $sudo tee $policy >/dev/null
        $sudo chmod +x $policy
        trap '$sudo rm -f $policy' EXIT
    fi
    $sudo apt-get update -q
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q --no-install-recommends mosquitto
    [ $ours = no ] || $sudo rm -f $policy
    ! command -v systemctl >/dev/null || $sudo systemctl disable mosquitto >/dev/null 2>&1 || true
fi
mosquitto=$(PATH=$PATH:/usr/sbin command -v mosquitto)

dir=$(mktemp -d)
broker=""
stop() {
    [ -z "$broker" ] || { kill "$broker" 2>/dev/null && wait "$broker" 2>/dev/null || true; }
    broker=""
}
trap 'stop; rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM

first_core="" second_core=""
if [ "$(nproc)" -gt 1 ] && command -v taskset >/dev/null; then
    first_core="taskset -c 0" second_core="taskset -c 1"
fi

answers() {
    "$headgate" bench connect --messages 1 --window 1 --port "$port" >/dev/null 2>&1
}

port=$((20000 + $$ % 10000))
free_port() {
    port=$((port + 1))
    while answers; do port=$((port + 1)); done
}

# start BROKER: leaves $broker and $port
start() {
    free_port
    home=$dir/$1
    rm -rf "$home" && mkdir -p "$home"
    case $1 in
    headgate)
        cat >"$home/conf" <<EOF
data_dir = "$home/data"
[log]
level = "warn"
[[listeners]]
name = "tcp"
bind = "127.0.0.1:$port"
EOF
        $first_core "$headgate" run --config "$home/conf" &
        ;;
    mosquitto)
        # Its queues are not limited, for otherwise it drops acknowledged messages in fan-in.
        cat >"$home/conf" <<EOF
listener $port 127.0.0.1
allow_anonymous true
persistence false
log_type none
max_queued_messages 0
EOF
        $first_core "$mosquitto" -c "$home/conf" &
        ;;
    esac
    broker=$!
    tries=0
    until answers; do
        tries=$((tries + 1))
        if [ $tries -gt 100 ] || ! kill -0 "$broker"; then
            echo "$1 does not start" >&2
            exit 1
        fi
        sleep 0.1
    done
}

# field NAME: from the JSON on standard input
field() {
    sed -n "s/.*\"$1\":\([0-9.]*\).*/\1/p"
}

# measure BROKER CASE-NUMBER ARGUMENTS...: one run, into the files of the medians
measure() {
    name=$1 number=$2
    shift 2
    start "$name"
    # A broken promise is reported and does not end the comparison.
    # shellcheck disable=SC2086 # empty, or three words
    $second_core "$headgate" bench "$@" --json --clients "$clients" --seconds "$seconds" --port "$port" --pid "$broker" \
        >"$dir/run" 2>"$dir/complaints" || sed "s/^/$name: /" "$dir/complaints" >&2
    stop
    for what in cpu_s_per_million per_second rss_bytes p50 p99; do
        field $what <"$dir/run" >>"$dir/$name.$number.$what"
    done
}

# median BROKER CASE-NUMBER WHAT
median() {
    sort -g "$dir/$1.$2.$3" | awk '{ v[NR] = $1 } END { if (NR) print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2; else print 0 }'
}

cases='pairs -q 0
pairs -q 0 --backlog 1
pairs -q 1
pairs -q 2
fan-in -q 0
fan-in -q 1
fan-out -q 0
fan-out -q 1
pairs -q 1 --rate 5000'

round=1
while [ "$round" -le "$rounds" ]; do
    number=0
    echo "$cases" >"$dir/cases"
    while read -r arguments; do
        number=$((number + 1))
        echo "round $round of $rounds: $arguments" >&2
        # shellcheck disable=SC2086 # several words are meant
        for name in headgate mosquitto; do measure $name $number $arguments </dev/null; done
    done <"$dir/cases"
    round=$((round + 1))
done

version=$("$mosquitto" -h | sed -n 's/^mosquitto version //p')
{
    echo "Measured on $(date -u +%Y-%m-%d), $(nproc) cores, load average at the end $(cut -d' ' -f1 /proc/loadavg); $clients clients, $seconds s a run, medians of $rounds rounds, mosquitto $version."
    echo
    echo "| \`headgate bench\` | headgate CPU s/M | mosquitto CPU s/M | ratio | headgate msg/s | mosquitto msg/s | headgate p50/p99 ms | mosquitto p50/p99 ms | headgate RSS MB | mosquitto RSS MB |"
    echo "|---|---|---|---|---|---|---|---|---|---|"
    number=0
    while read -r arguments; do
        number=$((number + 1))
        values=""
        for what in cpu_s_per_million per_second p50 p99 rss_bytes; do
            for name in headgate mosquitto; do values="$values $(median $name $number $what)"; done
        done
        echo "$values" | awk -v line="$arguments" '{
            ratio = $2 > 0 ? $1 / $2 : 0
            printf "| `%s` | %.3f | %.3f | %.2f | %.0f | %.0f | %.2f / %.2f | %.2f / %.2f | %.1f | %.1f |\n",
                line, $1, $2, ratio, $3, $4, $5 / 1000, $7 / 1000, $6 / 1000, $8 / 1000, $9 / 1e6, $10 / 1e6 }'
    done <"$dir/cases"
} >"$dir/table"
cat "$dir/table"

if [ $write = yes ]; then
    awk -v table="$dir/table" '
        /<!-- measured -->/ { print; while ((getline line < table) > 0) print line; skip = 1; next }
        /<!-- end -->/ { skip = 0 }
        !skip' "$page" >"$dir/page"
    cat "$dir/page" >"$page"
fi
