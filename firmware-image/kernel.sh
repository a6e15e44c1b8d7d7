#!/usr/bin/env bash
# Debian's kernel for arm64 and a static busybox, unpacked; not installed, for the hooks of an installation take very long in emulation.
# Leaves $KERNEL/vmlinuz, dtb/, lib/modules/VERSION/ and busybox.
set -euo pipefail
cd "$(dirname "$0")"
. ./common.sh
. ./board.sh

[ ! -e "$KERNEL/.complete" ] || exit 0
need kmod
say "Debian's kernel: downloading, about 65 MB"
private_apt_update
rm -rf "$KERNEL"
mkdir -p "$KERNEL/debs"
cd "$KERNEL/debs"
image=$(private_apt apt-cache depends linux-image-arm64:arm64 | awk '/Depends: linux-image/ && !found++ { print $2 }')
private_apt apt-get -q -q download "${image%:arm64}:arm64" busybox-static:arm64
for deb in *.deb; do dpkg -x "$deb" ../unpacked; done
cd ..
mv unpacked/boot/vmlinuz-* vmlinuz
mkdir lib
mv unpacked/lib/modules lib/modules
mv unpacked/usr/lib/linux-image-* dtb
mv unpacked/bin/busybox busybox
mkdir copyright
for package in unpacked/usr/share/doc/*/; do cp "$package/copyright" "copyright/$(basename "$package")"; done
rm -rf debs unpacked
depmod -b "$KERNEL" "$(ls lib/modules)"
touch .complete
say "kernel $(ls lib/modules): $(stat -c %s vmlinuz) bytes, modules $(du -sm lib/modules | cut -f1) MB before most are left out"
