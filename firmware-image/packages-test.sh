#!/usr/bin/env bash
# Installs, upgrades, removes and purges the Debian package in a clean root file system: that of this machine's architecture, and arm64 under qemu-user.
# Configurations must survive upgrades, and a purge must leave the data unless it is told not to.
set -euo pipefail
cd "$(dirname "$0")"
. ./common.sh

[ "$(id -u)" = 0 ] || fail "packages are tried in another root file system: this needs root"
[ $# -gt 0 ] || set -- amd64 arm64
config=/etc/headgate/headgate.toml

for arch; do
    package=$OUT/headgate_${PACKAGE_VERSION}_$arch.deb
    [ -e "$package" ] || fail "no package for $arch: make packages"
    base=$(./base.sh "$arch")
    root=$WORK/packages-test
    rm -rf "$root"
    mkdir -p "$root"
    tar -C "$root" -xf "$base"

    # The next version has another default configuration.
    cp "$package" "$root/this.deb"
    dpkg-deb -R "$package" "$root/next"
    sed -i "s/^Version: .*/Version: $PACKAGE_VERSION+next/" "$root/next/DEBIAN/control"
    echo '# The next version says more here.' >> "$root/next$config"
    dpkg-deb --root-owner-group -Znone --build "$root/next" "$root/next.deb" > /dev/null
    rm -rf "$root/next"

    inside() { chroot "$root" env DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
    expect() { "$@" || fail "$arch: after $step: $*"; }
    owner_of() { inside stat -c '%U:%G %a' "$1"; }
    log=$WORK/packages-test.log
    run() { inside "$@" > "$log" 2>&1 || { cat "$log" >&2; fail "$arch: $step: $*"; }; }

    step=installing
    say "$arch: $step, upgrading, removing, purging"
    run dpkg -i /this.deb
    expect test "$(inside headgate --version)" = "headgate $VERSION_OF_HEADGATE"
    cp "$root$config" "$root/check.toml"
    # Emulation of programs does not know SO_RXQ_OVFL, which sockets for datagrams ask for.
    [ "$arch" = amd64 ] || printf 'mqttsn = []\ncoap = []\nlwm2m = []\n' >> "$root/check.toml"
    run headgate check --config /check.toml
    expect test "$(owner_of $config)" = "headgate:headgate 640"
    expect test "$(owner_of /var/lib/headgate)" = "headgate:headgate 700"
    expect test -L "$root/etc/systemd/system/multi-user.target.wants/headgate.service"
    expect inside sh -c 'id -nG headgate | grep -qw dialout'

    step=upgrading
    echo 'node = "mine@here"' >> "$root$config"
    mkdir -p "$root/var/lib/headgate/store"
    echo queues > "$root/var/lib/headgate/store/data"
    run dpkg --force-confold -i /next.deb
    expect grep -q 'mine@here' "$root$config"
    expect grep -q 'says more here' "$root$config.dpkg-dist"
    expect test "$(owner_of $config)" = "headgate:headgate 640"
    expect grep -q queues "$root/var/lib/headgate/store/data"

    # The folder is the gateway's: what its user has put there is not followed.
    step="upgrading over a link"
    mv "$root$config" "$root$config.away"
    ln -s /etc/shadow "$root$config"
    shadow=$(owner_of /etc/shadow)
    run dpkg --force-confold -i /next.deb
    expect test "$(owner_of /etc/shadow)" = "$shadow"
    mv -T "$root$config.away" "$root$config"

    step=removing
    run dpkg -r headgate
    expect test ! -e "$root/usr/bin/headgate"
    expect grep -q 'mine@here' "$root$config"
    expect grep -q queues "$root/var/lib/headgate/store/data"

    step=purging
    run dpkg -P headgate
    expect test ! -e "$root/etc/headgate"
    expect grep -q queues "$root/var/lib/headgate/store/data"
    expect grep -q HEADGATE_PURGE_DATA "$log"

    step="purging with its data"
    run dpkg -i /this.deb
    expect grep -q queues "$root/var/lib/headgate/store/data"
    run env HEADGATE_PURGE_DATA=yes dpkg -P headgate
    expect test ! -e "$root/var/lib/headgate"
    expect test ! -e "$root/etc/systemd/system/multi-user.target.wants/headgate.service"

    rm -rf "$root"
    say "$arch: well"
done
