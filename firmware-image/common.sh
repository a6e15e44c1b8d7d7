# shellcheck shell=bash
# shellcheck disable=SC2034
# What all scripts of this folder share. Sourced by them, from this folder.

ROOT=$(cd .. && pwd)
WORK=${CARGO_TARGET_DIR:-$ROOT/target}/firmware-image # downloads and what is built of them
OUT=$WORK/out                                         # what is given away
mkdir -p "$WORK" "$OUT"
export LC_ALL=C.UTF-8

say() { printf '\033[1m[%s]\033[0m %s\n' "$(date +%T)" "$*" >&2; }
fail() { printf 'firmware-image: %s\n' "$*" >&2; exit 1; }

VERSION_OF_HEADGATE=$(sed -n 's/^version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml" | head -1)

# Installs what is missing of the packages named.
need() {
    local missing=() package
    for package; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    [ "$(id -u)" = 0 ] || fail "these packages are missing; as root: apt-get install --no-install-recommends ${missing[*]}"
    say "installing ${missing[*]}"
    apt-get -q -q update
    DEBIAN_FRONTEND=noninteractive apt-get -q -q install -y --no-install-recommends "${missing[@]}" > "$WORK/apt-install.log" 2>&1 ||
        { tail -20 "$WORK/apt-install.log" >&2; fail "could not install ${missing[*]}"; }
}

# apt with lists and sources of its own, for architectures that this machine need not know.
private_apt() { APT_CONFIG=$WORK/apt/apt.conf "$@"; }

# Where this machine has a suite from: mirrors are as they are set up here.
mirror_of() {
    local mirror
    # shellcheck disable=SC2016
    mirror=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' | awk -v suite="$1" '$1 == suite && !found++ { print $2 }')
    [ -n "$mirror" ] || fail "apt of this machine has no source for $1: this is made on Debian 12 (bookworm)"
    echo "$mirror"
}

KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

private_apt_update() {
    local apt=$WORK/apt main security
    main=$(mirror_of bookworm)
    security=$(mirror_of bookworm-security)
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/parts"
    touch "$apt/status"
    # armhf is left out of security: its index there is broken at times, and one broken index drops all others of the suite.
    cat > "$apt/sources.list" <<SOURCES
deb [signed-by=$KEYRING] $main bookworm main
deb-src [signed-by=$KEYRING] $main bookworm main
deb [signed-by=$KEYRING arch=amd64,arm64] $security bookworm-security main
deb [signed-by=$KEYRING arch=armhf] $main trixie main
SOURCES
    cat > "$apt/apt.conf" <<CONF
APT::Architecture "amd64";
APT::Architectures { "amd64"; "arm64"; "armhf"; };
APT::Sandbox::User "root";
APT::Get::AllowUnauthenticated "false";
Acquire::Languages "none";
Acquire::Retries "3";
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "$apt/parts";
Dir::State "$apt";
Dir::State::status "$apt/status";
Dir::State::lists "$apt/lists";
Dir::Cache "$apt/cache";
CONF
    private_apt apt-get -q -q update
}

BIN=$WORK/bin # the programs, by Debian architecture
ARCHES=(amd64 arm64 armhf)

rust_triple() {
    case $1 in
    amd64) echo x86_64-unknown-linux-gnu ;;
    arm64) echo aarch64-unknown-linux-gnu ;;
    armhf) echo armv7-unknown-linux-gnueabihf ;;
    *) fail "no architecture $1: amd64, arm64 or armhf" ;;
    esac
}

gnu_triple() {
    case $1 in
    amd64) echo x86_64-linux-gnu ;;
    arm64) echo aarch64-linux-gnu ;;
    armhf) echo arm-linux-gnueabihf ;;
    *) fail "no architecture $1: amd64, arm64 or armhf" ;;
    esac
}

# The C library that the program needs: build.sh.
libc_of() { case $1 in amd64) echo 2.34 ;; *) echo 2.36 ;; esac; }

PACKAGE_VERSION=${PACKAGE_VERSION:-$VERSION_OF_HEADGATE}
MAINTAINER=${MAINTAINER:-"The Headgate authors <headgate@example.org>"}

# Runs the program of an architecture: under qemu-user where it is not this machine's.
run_headgate() { # ARCH ARGUMENTS...
    local arch=$1
    shift
    case $arch in
    amd64) "$BIN/$arch/headgate" "$@" ;;
    arm64) qemu-aarch64-static -L "/usr/$(gnu_triple "$arch")" "$BIN/$arch/headgate" "$@" ;;
    armhf) qemu-arm-static -L "/usr/$(gnu_triple "$arch")" "$BIN/$arch/headgate" "$@" ;;
    esac
}
