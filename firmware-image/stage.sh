#!/usr/bin/env bash
# Lays out what every package installs, for one architecture, in $WORK/stage/ARCH. Files that packages own differently (documentation, conffiles) are
# left to them.
set -euo pipefail
cd "$(dirname "$0")"
. ./common.sh

arch=$1
stage=$WORK/stage/$arch
[ -x "$BIN/$arch/headgate" ] || fail "no program for $arch: firmware-image/build.sh $arch"

rm -rf "$stage"
install -D -m 755 "$BIN/$arch/headgate" "$stage/usr/bin/headgate"
install -D -m 644 packages/headgate.service "$stage/usr/lib/systemd/system/headgate.service"
install -D -m 644 packages/sysusers.conf "$stage/usr/lib/sysusers.d/headgate.conf"
install -D -m 644 packages/tmpfiles.conf "$stage/usr/lib/tmpfiles.d/headgate.conf"
install -D -m 644 packages/headgate.toml "$stage/etc/headgate/headgate.toml"

# The program tells all of this of itself, the same for every architecture.
own=$WORK/stage/own
if [ ! -e "$own/done" ] || [ "$BIN/$arch/headgate" -nt "$own/done" ]; then
    rm -rf "$own"
    mkdir -p "$own/man"
    run_headgate "$arch" man "$own/man"
    gzip -9n "$own"/man/*.1
    for shell in bash zsh fish; do run_headgate "$arch" completion $shell > "$own/$shell"; done
    touch "$own/done"
fi
install -d "$stage/usr/share/man/man1"
install -m 644 "$own"/man/*.1.gz "$stage/usr/share/man/man1/"
install -D -m 644 "$own/bash" "$stage/usr/share/bash-completion/completions/headgate"
install -D -m 644 "$own/zsh" "$stage/usr/share/zsh/vendor-completions/_headgate"
install -D -m 644 "$own/fish" "$stage/usr/share/fish/vendor_completions.d/headgate.fish"
echo "$stage"
