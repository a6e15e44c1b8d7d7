#!/usr/bin/env bash
# What systemd thinks of the gateway's unit: valid, and well locked in.
set -euo pipefail
cd "$(dirname "$0")"
. ./common.sh

readonly LIMIT=2.0 # of systemd's exposure level, 10 is everything
command -v systemd-analyze > /dev/null || fail "no systemd-analyze (Debian: apt-get install systemd)"
level=$(systemd-analyze security --offline=true --no-pager packages/headgate.service | sed -n 's/.*Overall exposure level.*: \([0-9.]*\).*/\1/p')
awk -v level="$level" -v limit=$LIMIT 'BEGIN { exit !(level != "" && level < limit) }' || fail "the unit's exposure level is $level, and below $LIMIT is wanted"
say "headgate.service: exposure level $level, below $LIMIT"
