#!/usr/bin/env bash
# Builds `headgate` for Debian architectures: amd64 with the toolchain that is there, arm64 and armhf with Debian's.
# For each there are bin/ARCH/headgate, stripped, and bin/ARCH/headgate.debug, which debuggers find by its build id.
set -euo pipefail
cd "$(dirname "$0")"
. ./common.sh

# Bytes, stripped. Code for amd64 is larger: LLVM finds little there that it can take out of several functions.
limit_of() { case $1 in amd64) echo 22000000 ;; *) echo 16000000 ;; esac; }

[ -e "$ROOT/gateway/web/dist/ui/index.html" ] || fail "the web UI is not built: make web"
need crossbuild-essential-arm64 crossbuild-essential-armhf lld-16

[ $# -gt 0 ] || set -- "${ARCHES[@]}"
# Cross compilers look for the linker in folders of their own, and here.
mkdir -p "$WORK/linker"
ln -sf "$(command -v ld.lld-16)" "$WORK/linker/ld.lld"
export COMPILER_PATH=$WORK/linker

for arch; do
    triple=$(rust_triple "$arch")
    gnu=$(gnu_triple "$arch")
    variable=${triple//-/_}
    target=$WORK/build/$arch
    export "CARGO_TARGET_${variable^^}_LINKER=$gnu-gcc" "CC_$variable=$gnu-gcc" "AR_$variable=$gnu-ar"
    if [ "$arch" != amd64 ]; then
        RUSTC=$(./toolchain.sh)
        export RUSTC
    fi
    say "building for $arch; minutes, many on a busy machine"
    # Of the program alone, where all of it is optimised at once. What LLVM takes out of several functions becomes a function that unwinding must know,
    # which takes 28 bytes: less than that is no gain.
    of_program=(-C llvm-args=-outliner-benefit-threshold=28 -C llvm-args=-machine-outliner-reruns=2)
    # Addresses that the loader puts in are written in a tenth of the bytes, where that is needed: it wants a C library of 2.36.
    packed=
    [ "$arch" = amd64 ] || packed=" -C link-arg=-Wl,-z,pack-relative-relocs"
    # Thumb-2, which all processors of armv7 have, says the same in fewer bytes.
    thumb=
    [ "$arch" != armhf ] || thumb=" -C target-feature=+thumb-mode"
    # No path of the machine that builds in what is given away; functions that are the same, once.
    flags="--remap-path-prefix=$ROOT=. --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo -C link-arg=-fuse-ld=lld -C link-arg=-Wl,--icf=all -C link-arg=-Wl,-O2$packed$thumb"
    (cd "$ROOT" && RUSTFLAGS=$flags \
        cargo rustc --locked --profile packaged -p headgate --bin headgate --target "$triple" --target-dir "$target" -- "${of_program[@]}")
    mkdir -p "$BIN/$arch"
    built=$target/$triple/packaged/headgate
    "$gnu-objcopy" --only-keep-debug --compress-debug-sections "$built" "$BIN/$arch/headgate.debug"
    "$gnu-objcopy" --strip-all --add-gnu-debuglink="$BIN/$arch/headgate.debug" "$built" "$BIN/$arch/headgate"
    size=$(stat -c %s "$BIN/$arch/headgate")
    say "$arch: $size bytes stripped, $(stat -c %s "$BIN/$arch/headgate.debug") bytes of debug information"
    limit=$(limit_of "$arch")
    [ "$size" -le "$limit" ] || fail "the program for $arch has $size bytes, and $limit are allowed"
    unset RUSTC
done
