#!/usr/bin/env bash
# Makes the root file system of a slot, $STAGE/rootfs.squashfs: Debian's base, the gateway, what this folder's root/ has, kernel and initramfs.
# VERSION of the image: PACKAGE_VERSION. For tests, BREAK=ended makes one whose gateway ends at once, and BREAK=frozen one whose
# first process hangs; WITH=wifi has an access point and two radios that the kernel pretends.
set -euo pipefail
cd "$(dirname "$0")"
. ./common.sh
. ./board.sh

[ "$(id -u)" = 0 ] || fail "the root file system is made as root"
need squashfs-tools kmod
./kernel.sh
keys=$(./keys.sh)
base=$(./base.sh arm64)
stage=$(./stage.sh arm64)

root=$STAGE/root
say "root file system $PACKAGE_VERSION for $BOARD_NAME"
rm -rf "$root"
mkdir -p "$root"
tar -C "$root" -xf "$base"
./prune.sh "$root"

# The gateway, by what its packages install, without what only a command line wants.
install -m 755 "$stage/usr/bin/headgate" "$root/usr/bin/headgate"
install -m 644 "$stage/usr/lib/systemd/system/headgate.service" "$root/usr/lib/systemd/system/"
install -D -m 644 "$stage/usr/lib/sysusers.d/headgate.conf" "$root/usr/lib/sysusers.d/headgate.conf"
cp -r --no-preserve=ownership root/. "$root/"
chmod 755 "$root"/usr/lib/headgate/*
BOARD_ROOT_FILES "$root"
if [ "${BREAK:-}" = ended ]; then
    printf '#!/bin/sh\nexit 1\n' > "$root/usr/bin/headgate"
fi

sed -i "s/@COMPATIBLE@/$BOARD_COMPATIBLE/" "$root/etc/rauc/system.conf"
install -m 644 "$keys/ca.pem" "$root/etc/rauc/keyring.pem"
install -D -m 644 "$keys/provisioning.pem" "$root/etc/headgate/provisioning.pem"
{
    grep -v '^IMAGE_' "$root/usr/lib/os-release"
    echo "IMAGE_ID=headgate"
    echo "IMAGE_VERSION=$PACKAGE_VERSION"
} > "$root/usr/lib/os-release.new"
mv "$root/usr/lib/os-release.new" "$root/usr/lib/os-release"
echo headgate > "$root/etc/hostname"
printf '127.0.0.1 localhost\n::1 localhost\n127.0.1.1 headgate\n' > "$root/etc/hosts"
: > "$root/etc/machine-id"
ln -sf /run/systemd/resolve/resolv.conf "$root/etc/resolv.conf"
install -d "$root/data" "$root/boot"
# A clock without a battery starts no earlier than this.
touch "$root/usr/lib/clock-epoch"

systemd-sysusers --root="$root" > /dev/null 2>&1
# Nobody has a password, and nobody may log in.
sed -i 's/^\([^:]*\):[^:]*:/\1:!*:/' "$root/etc/shadow"
unit() { ln -sf "$1" "$root/etc/systemd/system/$2"; }
install -d "$root/etc/systemd/system/multi-user.target.wants"
for service in headgate.service headgate-good.service headgate-reboot.path headgate-factory-reset.path headgate-wan.path; do unit "/usr/lib/systemd/system/$service" "multi-user.target.wants/$service"; done
systemctl --root="$root" --quiet enable systemd-networkd systemd-resolved systemd-timesyncd
systemctl --root="$root" --quiet set-default multi-user.target
# Nobody logs in, nothing of this is kept, and each costs time at the start.
for service in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service systemd-firstboot.service getty.target \
    console-getty.service serial-getty@.service getty@.service debug-shell.service systemd-hwdb-update.service systemd-machine-id-commit.service \
    systemd-update-done.service ldconfig.service systemd-journal-catalog-update.service systemd-pcrphase.service systemd-pcrphase-sysinit.service \
    systemd-network-generator.service sys-kernel-debug.mount sys-kernel-tracing.mount proc-sys-fs-binfmt_misc.automount systemd-binfmt.service \
    systemd-logind.service systemd-user-sessions.service systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-random-seed.service \
    systemd-journal-flush.service systemd-pstore.service systemd-ask-password-console.path systemd-ask-password-wall.path dev-hugepages.mount \
    dev-mqueue.mount sys-fs-fuse-connections.mount systemd-rfkill.socket systemd-rfkill.service systemd-fsckd.socket systemd-initctl.socket; do
    systemctl --root="$root" --quiet mask "$service"
done
if [ "${BREAK:-}" = frozen ]; then
    # systemd freezes when it has crashed.
    printf '[Service]\nType=oneshot\nExecStart=/bin/sh -c "kill -SEGV 1"\n' > "$root/etc/systemd/system/frozen.service"
    unit ../frozen.service multi-user.target.wants/frozen.service
fi
if [ "${WITH:-}" = wifi ]; then
    cp -r --no-preserve=ownership test-wifi/. "$root/"
    BOARD_MODULES+=(drivers/net/wireless/mac80211_hwsim crypto/ccm crypto/cmac crypto/ctr crypto/gcm)
    for service in test-wifi.service test-wifi-tells.service; do unit "/usr/lib/systemd/system/$service" "multi-user.target.wants/$service"; done
fi
install -d "$root/etc/systemd/system-generators"
ln -sf /dev/null "$root/etc/systemd/system-generators/systemd-getty-generator"

# Kernel, device tree, modules.
version=$(ls "$KERNEL/lib/modules")
install -D -m 644 "$KERNEL/vmlinuz" "$root/boot/vmlinuz"
[ -z "$BOARD_DTB" ] || install -D -m 644 "$KERNEL/dtb/$BOARD_DTB" "$root/boot/dtb/$BOARD_DTB"
mapfile -t common < <(grep -v '^#' modules.txt)
modules=$root/usr/lib/modules/$version
mkdir -p "$modules"
python3 modules.py "$KERNEL/lib/modules/$version" "$modules" "${common[@]}" "${BOARD_MODULES[@]}" > /dev/null
depmod -b "$root" "$version"
./initramfs.sh "$modules" "$root/boot/initrd.img"
cp -r "$KERNEL/copyright" "$root/usr/share/doc/kernel"

# U-Boot is slow at decompressing: the kernel is as it is. The image and bundles compress it.
rm -f "$STAGE/rootfs.squashfs"
mksquashfs "$root" "$STAGE/rootfs.squashfs" -comp zstd -Xcompression-level "${LEVEL:-19}" -b 256K -noappend -quiet -no-progress -no-xattrs \
    -action "uncompressed@name(vmlinuz)"
say "$(stat -c '%s' "$STAGE/rootfs.squashfs") bytes compressed, $(du -sm "$root" | cut -f1) MB as files; modules $(du -sm "$modules" | cut -f1) MB"
rm -rf "$root"
