#!/usr/bin/env bash
# The boot partition's folder: the boot script, and what the board's first stage wants.
set -euo pipefail
cd "$(dirname "$0")"
. ./common.sh
. ./board.sh

need u-boot-tools
boot=$STAGE/boot
rm -rf "$boot"
mkdir -p "$boot"
sed -e '/^ *#/d' -e "s|@CONSOLE@|$BOARD_CONSOLE|; s|@TREE@|$BOARD_TREE|; s|@DTB@|$BOARD_DTB|" boot/boot.cmd > "$STAGE/boot.cmd"
mkimage -A arm64 -T script -C none -n headgate -d "$STAGE/boot.cmd" "$boot/boot.scr" > /dev/null
BOARD_BOOT_FILES "$boot"
