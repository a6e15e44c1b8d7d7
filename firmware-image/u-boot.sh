#!/usr/bin/env bash
# Builds a board's U-Boot from Debian's sources: the ready-made one starts whatever script lies on a stick, or on a server of the network.
# Prints the folder with u-boot.bin. BOARD=name of a file in boards/
set -euo pipefail
cd "$(dirname "$0")"
. ./common.sh
. ./board.sh

readonly SOURCES=$WORK/u-boot-source

# Each device in turn: its boot script goes on, or comes back if there is none.
bootcommand=
for device in "${BOARD_BOOT[@]}"; do
    read -r type number <<< "$device"
    init=
    case $type in
    virtio) init="virtio scan; " ;;
    usb) fail "a stick as boot device needs USB in boot/u-boot.config" ;;
    esac
    bootcommand+="${init}setenv devtype $type; setenv devnum $number; if load $type $number:1 \${scriptaddr} boot.scr; then source \${scriptaddr}; fi; "
done
bootcommand+="reset"

{
    grep -v '^# [A-Z][^_]* ' boot/u-boot.config
    echo "CONFIG_BOOTCOMMAND=\"$bootcommand\""
    for line in "${BOARD_UBOOT_CONFIG[@]}"; do echo "$line"; done
} > "$WORK/u-boot-$BOARD.config"

[ -n "$BOARD_UBOOT" ] || fail "the U-Boot of $BOARD_NAME is not made here: $BOARD_UBOOT_TRUSTED. What it wants beside its own configuration is in $WORK/u-boot-$BOARD.config"
need bison flex bc libssl-dev crossbuild-essential-arm64

if [ ! -e "$SOURCES/.complete" ]; then
    say "U-Boot's sources, of Debian: downloading"
    private_apt_update
    rm -rf "$SOURCES"
    mkdir -p "$SOURCES"
    (cd "$SOURCES" && private_apt apt-get -q -q source u-boot > unpack.log && mv u-boot-*/ tree)
    touch "$SOURCES/.complete"
fi

if ! cmp -s "$WORK/u-boot-$BOARD.config" "$UBOOT/headgate.config" || [ ! -e "$UBOOT/u-boot.bin" ]; then
    say "building U-Boot for $BOARD_NAME"
    rm -rf "$UBOOT"
    mkdir -p "$UBOOT"
    build() { make -C "$SOURCES/tree" O="$UBOOT" CROSS_COMPILE=aarch64-linux-gnu- -j"$(nproc)" "$@" >> "$UBOOT/build.log" 2>&1 || { tail -20 "$UBOOT/build.log" >&2; fail "U-Boot: $*"; }; }
    build "$BOARD_UBOOT"
    cat "$WORK/u-boot-$BOARD.config" >> "$UBOOT/.config"
    build olddefconfig
    build u-boot.bin
    cp "$WORK/u-boot-$BOARD.config" "$UBOOT/headgate.config"
fi
if ! grep -q "^CONFIG_BOOTDELAY=-2" "$UBOOT/.config" || grep -qE "^CONFIG_(NET|USB)=y" "$UBOOT/.config"; then
    fail "U-Boot's configuration is not what boot/u-boot.config asks for: see $UBOOT/.config"
fi
echo "$UBOOT"
