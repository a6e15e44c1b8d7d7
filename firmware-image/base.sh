#!/usr/bin/env bash
# A root file system of Debian as an archive that is kept: for arm64 what images are made of, for amd64 what packages are tried in. Packages of other
# architectures are set up in emulation, which takes minutes. REFRESH=1 makes it anew, with the updates that there are by now. Prints the archive's path.
set -euo pipefail
cd "$(dirname "$0")"
. ./common.sh

arch=${1:-arm64}
packages=systemd,systemd-sysv,libgcc-s1,init-system-helpers
[ "$arch" = amd64 ] || packages+=,systemd-resolved,libnss-resolve,systemd-timesyncd,udev,dbus,kmod,rauc,rauc-service,libubootenv-tool,e2fsprogs,ca-certificates,iproute2,wpasupplicant,wireless-regdb,ppp
base=$WORK/base-$arch.tar

if [ ! -e "$base" ] || [ -n "${REFRESH:-}" ]; then
    [ "$(id -u)" = 0 ] || fail "root file systems are made as root"
    need mmdebstrap arch-test
    [ "$arch" = amd64 ] || ./emulation.sh
    say "a root file system of Debian for $arch: some minutes, if it is emulated"
    main=$(mirror_of bookworm)
    security=$(mirror_of bookworm-security)
    mmdebstrap --mode=root --architectures="$arch" --variant=essential --include="$packages" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/lintian/*' --dpkgopt='path-exclude=/usr/share/bug/*' \
        bookworm "$base.new.tar" "deb $main bookworm main" "deb $main bookworm-updates main" "deb $security bookworm-security main" >&2
    mv "$base.new.tar" "$base"
fi
echo "$base"
