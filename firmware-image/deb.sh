#!/usr/bin/env bash
# Debian packages, from what stage.sh lays out. Arguments: architectures.
set -euo pipefail
cd "$(dirname "$0")"
. ./common.sh

need lintian fakeroot
[ $# -gt 0 ] || set -- "${ARCHES[@]}"
date=$(git -C "$ROOT" log -1 --format=%aD)
export SOURCE_DATE_EPOCH
SOURCE_DATE_EPOCH=$(git -C "$ROOT" log -1 --format=%at)

for arch; do
    stage=$(./stage.sh "$arch")
    documents=$stage/usr/share/doc/headgate
    install -D -m 644 packages/deb/copyright "$documents/copyright"
    install -D -m 644 "$ROOT/CHANGELOG.md" "$documents/CHANGELOG.md"
    gzip -9n "$documents/CHANGELOG.md"
    printf 'headgate (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md.gz for what users see of it.\n\n -- %s  %s\n' \
        "$PACKAGE_VERSION" "$MAINTAINER" "$date" | gzip -9n > "$documents/changelog.gz"
    install -d "$stage/DEBIAN"
    install -m 755 packages/deb/{postinst,prerm,postrm} "$stage/DEBIAN/"
    echo /etc/headgate/headgate.toml > "$stage/DEBIAN/conffiles"
    cat > "$stage/DEBIAN/control" <<CONTROL
Package: headgate
Version: $PACKAGE_VERSION
Architecture: $arch
Maintainer: $MAINTAINER
Installed-Size: $(du -sk --apparent-size "$stage" | cut -f1)
Depends: libc6 (>= $(libc_of "$arch")), libgcc-s1, init-system-helpers (>= 1.52), systemd | systemd-sysusers, systemd | systemd-tmpfiles
Recommends: ca-certificates
Suggests: rauc
Section: net
Priority: optional
Description: multi-protocol IoT gateway that loses nothing it acknowledged
 Sensors, machines and clouds meet on one publish/subscribe bus: MQTT 3.1,
 3.1.1 and 5, MQTT-SN 1.2 over UDP, DTLS and serial lines, CoAP, LwM2M and
 STOMP, with bridges to other brokers and clouds. Sessions, queues, retained
 messages and wills survive a power cut. A web UI sets it up and shows what
 it does.
CONTROL
    (cd "$stage" && find usr -type f -print0 | sort -z | xargs -0 md5sum > DEBIAN/md5sums)
    package=$OUT/headgate_${PACKAGE_VERSION}_$arch.deb
    dpkg-deb --root-owner-group -Zxz --build "$stage" "$package" > /dev/null
    lintian --fail-on error --suppress-tags bad-distribution-in-changes-file "$package" || fail "lintian found errors in $package"
    say "$(stat -c '%s bytes: %n' "$package")"
done
