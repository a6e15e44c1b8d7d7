#!/usr/bin/env bash
# Archives for everybody else, to be unpacked in /. Arguments: architectures.
set -euo pipefail
cd "$(dirname "$0")"
. ./common.sh

[ $# -gt 0 ] || set -- "${ARCHES[@]}"
for arch; do
    stage=$(./stage.sh "$arch")
    install -D -m 644 "$ROOT/LICENSE" "$stage/usr/share/doc/headgate/LICENSE"
    install -D -m 644 "$ROOT/CHANGELOG.md" "$stage/usr/share/doc/headgate/CHANGELOG.md"
    # An archive has no conffiles: what it unpacks must not take the place of a configuration.
    mv "$stage/etc/headgate/headgate.toml" "$stage/usr/share/doc/headgate/headgate.toml"
    rm -r "${stage:?}/etc"
    archive=$OUT/headgate-$PACKAGE_VERSION-linux-$arch.tar.gz
    tar -C "$stage" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$(git -C "$ROOT" log -1 --format=%at)" -c usr | gzip -9n > "$archive"
    say "$(stat -c '%s bytes: %n' "$archive")"
done
