#!/usr/bin/env bash
# RPM packages, from what stage.sh lays out. Arguments: architectures, by Debian's names.
set -euo pipefail
cd "$(dirname "$0")"
. ./common.sh

need rpm
[ $# -gt 0 ] || set -- "${ARCHES[@]}"

for arch; do
    case $arch in
    amd64) machine=x86_64 ;;
    arm64) machine=aarch64 ;;
    armhf) machine=armv7hl ;;
    esac
    stage=$(./stage.sh "$arch")
    install -d "$stage/usr/share/zsh/site-functions"
    mv "$stage/usr/share/zsh/vendor-completions/_headgate" "$stage/usr/share/zsh/site-functions/"
    rmdir "$stage/usr/share/zsh/vendor-completions"
    install -D -m 644 "$ROOT/CHANGELOG.md" "$stage/usr/share/doc/headgate/CHANGELOG.md"
    install -D -m 644 "$ROOT/LICENSE" "$stage/usr/share/licenses/headgate/LICENSE"
    # The program is stripped already, and for another machine.
    rpmbuild --quiet -bb --target "$machine-linux" \
        --define "_topdir $WORK/rpm" --define "_rpmdir $OUT" --define "_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm" \
        --define "_stage $stage" --define "_version $PACKAGE_VERSION" --define "_libc $(libc_of "$arch")" \
        --define "__os_install_post %{nil}" --define "debug_package %{nil}" --define "_build_id_links none" \
        --define "_binary_payload w19.zstdio" --define "clamp_mtime_to_source_date_epoch 1" \
        packages/rpm/headgate.spec > "$WORK/rpm.log" 2>&1 || { cat "$WORK/rpm.log" >&2; fail "rpmbuild for $machine"; }
    package=$OUT/headgate-$PACKAGE_VERSION-1.$machine.rpm
    rpm -qp --queryformat '%{ARCH}' "$package" | grep -qx "$machine" || fail "$package is not for $machine"
    say "$(stat -c '%s bytes: %n' "$package")"
done
