#!/usr/bin/env bash
# Makes the image to flash: GPT with boot, env, rootfs-A and rootfs-B; the first boot adds data in what is left of the disk. Both slots have the system.
# BOARD=name of a file in boards/, PACKAGE_VERSION of the image.
set -euo pipefail
cd "$(dirname "$0")"
. ./common.sh
. ./board.sh

readonly LIMIT=$((64 * 1024 * 1024)) # bytes, compressed
# Slots have room to grow; two of them begin less than 128 MiB apart, so that zstd sees that they hold the same.
readonly SLOT=112M

need genimage mtools dosfstools u-boot-tools zstd
mkdir -p "$STAGE"
[ -z "$BOARD_UBOOT" ] || ./u-boot.sh > /dev/null
./boot.sh
./rootfs.sh

printf '%s\n' "BOOT_ORDER=A B" BOOT_A_LEFT=3 BOOT_B_LEFT=3 | mkenvimage -r -s 0x4000 -o "$STAGE/copy.env" -
# Two copies, 512 KiB apart.
rm -f "$STAGE/env.img"
truncate -s 1M "$STAGE/env.img"
for at in 0 512; do dd if="$STAGE/copy.env" of="$STAGE/env.img" bs=1K seek=$at conv=notrunc status=none; done

cat > "$STAGE/genimage.cfg" <<CONFIG
image boot.vfat {
    vfat { label = "BOOT" }
    size = 16M
    mountpoint = "/"
}
image headgate.img {
    # Parts begin where erase blocks of flash do.
    hdimage { partition-table-type = "${BOARD_TABLE:-gpt}" align = 1M }
$BOARD_RAW
    partition boot {
        image = "boot.vfat"
        offset = 4M
        ${BOARD_TABLE:+partition-type = 0x0c}
        partition-type-uuid = "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"
    }
    partition env {
        image = "env.img"
        partition-type-uuid = "3DE21764-95BD-54BD-A5C3-4ABE786F38A8"
    }
    partition rootfs-A {
        image = "rootfs.squashfs"
        size = $SLOT
        partition-type-uuid = "B921B045-1DF0-41C3-AF44-4C6F280D3FAE"
    }
    partition rootfs-B {
        image = "rootfs.squashfs"
        size = $SLOT
        partition-type-uuid = "B921B045-1DF0-41C3-AF44-4C6F280D3FAE"
    }
}
CONFIG
rm -rf "$STAGE/genimage.tmp"
genimage --config "$STAGE/genimage.cfg" --rootpath "$STAGE/boot" --inputpath "$STAGE" --outputpath "$STAGE" --tmppath "$STAGE/genimage.tmp" > "$STAGE/genimage.log" 2>&1 ||
    { cat "$STAGE/genimage.log" >&2; fail genimage; }
rm -rf "$STAGE/genimage.tmp" "$STAGE/boot.vfat"

image=$OUT/headgate-$PACKAGE_VERSION-$BOARD.img.zst
zstd -q -f -T0 -6 --long=27 "$STAGE/headgate.img" -o "$image"
size=$(stat -c %s "$image")
[ "$size" -le $LIMIT ] || fail "the image has $size bytes compressed, and $LIMIT are allowed"
say "$size bytes: $image; unpacked $(stat -c %s "$STAGE/headgate.img") bytes"
