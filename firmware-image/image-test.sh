#!/usr/bin/env bash
# Boots the image in QEMU and updates it: good, broken, foreign and older bundles, and power cuts, ROUNDS of them at random moments (2).
# CASES=boot,refuse,update,fallback,watchdog,provision,reset,clock,wans,cellular,idle,cut,environment,random,wifi chooses. The disk stays in $WORK/image-test when something fails.
set -euo pipefail
cd "$(dirname "$0")"
. ./common.sh
BOARD=qemu-virt
. ./board.sh

command -v qemu-system-aarch64 > /dev/null || [ -n "${INSTALL_QEMU:-}" ] || {
    say "SKIPPED: no qemu-system-aarch64 here (Debian: apt-get install qemu-system-arm, or INSTALL_QEMU=1)"
    exit 0
}
need qemu-system-arm mosquitto mosquitto-clients iproute2 mtools dosfstools zstd fdisk openssl

test=$WORK/image-test
mkdir -p "$test/bundles"
V=$VERSION_OF_HEADGATE
image=$OUT/headgate-$V-$BOARD.img.zst
if [ ! -e "$image" ] || [ ! -e "$UBOOT/u-boot.bin" ]; then ./image.sh; fi

# Bundles that differ from the image in little: the compression does not matter.
make_bundle() { # NAME VERSION [VARIABLE=VALUE...]
    local name=$1 version=$2
    shift 2
    [ "$test/bundles/$name.raucb" -nt "$image" ] ||
        env "$@" PACKAGE_VERSION="$version" OUTPUT="$test/bundles/$name.raucb" BOARD="$BOARD" ./bundle.sh
}
if [ ! "$test/bundles/done" -nt "$image" ]; then
    saved=$test/rootfs.saved
    mv "$STAGE/rootfs.squashfs" "$saved"
    PACKAGE_VERSION=$V.1 LEVEL=1 ./rootfs.sh
    make_bundle good "$V.1"
    make_bundle one "$V.8" # the same system, by a name that no other has
    make_bundle older 0.0.1
    make_bundle foreign "$V.9" KEYS="$test/rogue-keys"
    make_bundle other-board "$V.9" COMPATIBLE=headgate-other-board
    PACKAGE_VERSION=$V.2 LEVEL=1 BREAK=ended ./rootfs.sh
    make_bundle broken "$V.2"
    PACKAGE_VERSION=$V.4 LEVEL=1 BREAK=frozen ./rootfs.sh
    make_bundle frozen "$V.4"
    PACKAGE_VERSION=$V.3 LEVEL=1 ./rootfs.sh
    make_bundle next "$V.3"
    make_bundle other "$V.9"
    PACKAGE_VERSION=$V.9.1 LEVEL=1 WITH=wifi ./rootfs.sh
    make_bundle wifi "$V.9.1"
    mv "$saved" "$STAGE/rootfs.squashfs"
    touch "$test/bundles/done"
fi

exec python3 -u image_test.py "$image" "$UBOOT/u-boot.bin" "$test" "$V" "${ROUNDS:-2}" "${CASES:-boot,refuse,update,fallback,watchdog,provision,reset,clock,wans,cellular,idle,cut,environment,random,wifi}" "$(./keys.sh)"
