#!/usr/bin/env bash
# Runs the programs of all architectures, those of others under qemu-user: store, TLS, MQTT, and MQTT-SN over a pseudo terminal.
set -euo pipefail
cd "$(dirname "$0")"
. ./common.sh

need qemu-user-static crossbuild-essential-arm64 crossbuild-essential-armhf mosquitto-clients openssl
[ $# -gt 0 ] || set -- "${ARCHES[@]}"
for arch; do
    gnu=$(gnu_triple "$arch")
    run=()
    if [ "$arch" != amd64 ]; then
        "$gnu-gcc" -O2 -Wall -shared -fPIC -o "$WORK/termios2-$arch.so" self_check_termios2.c
        run=("qemu-$(case $arch in arm64) echo aarch64 ;; armhf) echo arm ;; esac)-static" -L "/usr/$gnu" -E "LD_PRELOAD=$WORK/termios2-$arch.so")
    fi
    say "self-check of $arch"
    python3 self_check.py "${run[@]}" "$BIN/$arch/headgate"
done
