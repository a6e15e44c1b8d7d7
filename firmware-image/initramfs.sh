#!/usr/bin/env bash
# The initramfs: busybox, one script, and the modules that lead to the root file system. Written here and not in the root file system, for the usual
# tools take very long in emulation. Arguments: the root file system with its modules, and the file to write.
set -euo pipefail
cd "$(dirname "$0")"
. ./common.sh
. ./board.sh

need cpio zstd
modules=$1
out=$(realpath -m "$2")
tree=$STAGE/initramfs
rm -rf "$tree"
mkdir -p "$tree"/{bin,modules,dev}
install -m 755 "$KERNEL/busybox" "$tree/bin/busybox"
for applet in sh cat echo grep insmod mkdir mount reboot sed sleep switch_root umount; do ln -s busybox "$tree/bin/$applet"; done
install -m 755 initramfs/init "$tree/init"
order=$(python3 modules.py "$modules" "$STAGE/initramfs-modules" squashfs "${BOARD_INITRAMFS[@]}")
for module in $order; do
    cp "$STAGE/initramfs-modules/$module" "$tree/modules/"
    basename "$module"
done > "$tree/modules/order"
rm -rf "$STAGE/initramfs-modules"
(cd "$tree" && find . -print0 | sort -z | cpio --null --quiet --reproducible -o -H newc -R 0:0) | zstd -q -19 -f -o "$out"
