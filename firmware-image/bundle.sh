#!/usr/bin/env bash
# Makes a signed bundle of the root file system that image.sh or rootfs.sh has left. NOTES, one line, is told to who looks into the bundle before it is
# installed. COMPATIBLE, KEYS and OUTPUT stand in for what is usual, for tests.
set -euo pipefail
cd "$(dirname "$0")"
. ./common.sh
. ./board.sh

need rauc squashfs-tools
keys=$(./keys.sh)
[[ ${NOTES:-} != *$'\n'* ]] || fail "NOTES is one line"
[ -e "$STAGE/rootfs.squashfs" ] || fail "no root file system for $BOARD: make image BOARD=$BOARD"
content=$STAGE/bundle-content
bundle=${OUTPUT:-$OUT/headgate-$PACKAGE_VERSION-$BOARD.raucb}
rm -rf "$content" "$bundle"
mkdir -p "$content"
ln "$STAGE/rootfs.squashfs" "$content/rootfs.img"
cat > "$content/manifest.raucm" <<MANIFEST
[update]
compatible=${COMPATIBLE:-$BOARD_COMPATIBLE}
version=$PACKAGE_VERSION
description=Headgate $PACKAGE_VERSION for $BOARD_NAME${NOTES:+: $NOTES}
build=$(git -C "$ROOT" rev-parse --short HEAD)

[bundle]
format=verity

[image.rootfs]
filename=rootfs.img
MANIFEST
rauc bundle --cert="$keys/signer.pem" --key="$keys/signer.key" --keyring="$keys/ca.pem" --mksquashfs-args="-comp zstd -Xcompression-level 1" \
    "$content" "$bundle" > "$STAGE/bundle.log" 2>&1 || { cat "$STAGE/bundle.log" >&2; fail "rauc bundle"; }
rm -rf "$content"
say "$(stat -c '%s bytes: %n' "$bundle")"
