#!/bin/sh
# Installs the DTLS clients of the black-box tests below the folder that is given: tinydtls into the Python environment that install.sh has made, and a client of
# our tests around Mbed TLS, whose sources a Rust package carries; OpenSSL is there.
set -eu
dir=$1
cargo=$2
here=$(cd "$(dirname "$0")" && pwd)
mbedtls=0.3.1
exec 9>"$dir/lock"
flock 9

packages=""
command -v openssl >/dev/null || packages="$packages openssl"
command -v cc >/dev/null || packages="$packages gcc libc6-dev"
"$dir/venv/bin/python" -c 'import DTLSSocket' 2>/dev/null || packages="$packages autoconf automake libtool make"
if [ -n "$packages" ]; then
    sudo=""
    [ "$(id -u)" = 0 ] || sudo="sudo -n"
    $sudo apt-get update -q
    # shellcheck disable=SC2086 # several words are meant
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q --no-install-recommends $packages
fi
"$dir/venv/bin/python" -c 'import DTLSSocket' 2>/dev/null || "$dir/venv/bin/pip" install -q DTLSSocket==0.2.3

work=$dir/mbedtls-$mbedtls
[ -x "$work/dtls_client" ] && [ "$work/dtls_client" -nt "$here/dtls_client.c" ] && exit 0
mkdir -p "$work/src" "$work/objects"
cat >"$work/Cargo.toml" <<END
[package]
name = "sources"
version = "0.0.0"
edition = "2024"
[dependencies]
mbedtls-rs-sys = "=$mbedtls"
[workspace]
END
: >"$work/src/lib.rs"
"$cargo" fetch -q --manifest-path "$work/Cargo.toml"
sources=$("$cargo" metadata --format-version 1 --offline --manifest-path "$work/Cargo.toml" |
    tr ',' '\n' | sed -n 's/.*"manifest_path":"\(.*mbedtls-rs-sys-.*\)\/Cargo.toml".*/\1/p')/mbedtls
find "$sources/library" -name '*.c' |
    xargs -P 2 -I{} sh -c 'cc -O1 -I"$1/include" -I"$1/library" -c "$3" -o "$2/objects/$(basename "$3" .c).o"' \
        sh "$sources" "$work" {}
cc -O1 -Wall -Wextra -I"$sources/include" "$here/dtls_client.c" "$work"/objects/*.o -o "$work/dtls_client.new"
mv "$work/dtls_client.new" "$work/dtls_client"
