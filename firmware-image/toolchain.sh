#!/usr/bin/env bash
# Debian's rustc-web with the standard libraries of arm64 and armhf, unpacked into a folder and not installed: it would take the place of
# the rustc that is there. Cargo stays the one that is there. Prints the path of the wrapper that runs the compiler.
#
# The compiler is of bookworm, and so are the cross toolchains that link: the programs run on Debian 12 and whatever is newer.
# The standard library of armhf is built from the same source in trixie alone; its code needs no newer C library.
set -euo pipefail
cd "$(dirname "$0")"
. ./common.sh

readonly VERSION=1.96.0
readonly TREE=$WORK/rust-$VERSION

# Downloads one package, by its architecture and Debian version, of the first release that has it.
get() { # NAME[:ARCH] VERSION-PATTERN
    local version
    version=$(private_apt apt-cache madison "$1" | awk -F'|' -v want="$2" '{ gsub(/ /, "", $2) } index($2, want) == 1 && !found++ { print $2 }')
    [ -n "$version" ] || fail "Debian has no $1 of version $2 any more: set VERSION in firmware-image/toolchain.sh to one that $1 and rustc-web share"
    private_apt apt-get -q -q download "$1=$version"
}

if [ ! -e "$TREE/.complete" ]; then
    say "rustc $VERSION of Debian: downloading and unpacking, about 200 MB"
    private_apt_update
    rm -rf "$TREE" "$WORK/rust-debs"
    mkdir -p "$TREE" "$WORK/rust-debs"
    cd "$WORK/rust-debs"
    get rustc-web $VERSION
    get libstd-rust-web-${VERSION%.*} $VERSION
    get libstd-rust-web-dev $VERSION
    get libstd-rust-web-dev:arm64 $VERSION
    get libstd-rust-web-dev:armhf $VERSION || get libstd-rust-dev:armhf $VERSION
    get libllvm22 1:22
    get libz3-4 4
    for deb in *.deb; do dpkg -x "$deb" "$TREE"; done
    rm -rf "$WORK/rust-debs" "$TREE/usr/share/doc" "$TREE/usr/share/man"
    cat > "$TREE/rustc" <<WRAPPER
#!/bin/sh
LD_LIBRARY_PATH=$TREE/usr/lib/x86_64-linux-gnu exec $TREE/usr/bin/rustc "\$@"
WRAPPER
    chmod +x "$TREE/rustc"
    "$TREE/rustc" -V >&2
    touch "$TREE/.complete"
fi
echo "$TREE/rustc"
