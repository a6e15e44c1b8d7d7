#!/usr/bin/env bash
# Keys that bundles and provisioning files are signed with, made when there are none. KEYS=folder keeps them elsewhere: whoever loses them can update no
# gateway in the field, and whoever else has them, every one. Prints the folder: ca.pem goes into images; signer.key and signer.pem sign; ca.key belongs in a
# safe. provisioning.pem goes into images, too, and provisioning.key signs what `headgate provision` takes.
set -euo pipefail
cd "$(dirname "$0")"
. ./common.sh

need openssl
keys=${KEYS:-$WORK/keys}
if [ ! -e "$keys/signer.pem" ]; then
    say "making keys for bundles in $keys: whoever loses them updates no gateway any more, and \`cargo clean\` deletes what is in target; KEYS=folder keeps them elsewhere"
    umask 077
    mkdir -p "$keys"
    new_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }
    new_key "$keys/ca.key"
    openssl req -x509 -new -key "$keys/ca.key" -days 7300 -subj "/O=Headgate/CN=Bundles of this build" \
        -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" -out "$keys/ca.pem"
    new_key "$keys/signer.key"
    openssl req -new -key "$keys/signer.key" -subj "/O=Headgate/CN=Signer of bundles" |
        openssl x509 -req -CA "$keys/ca.pem" -CAkey "$keys/ca.key" -CAcreateserial -days 7300 -out "$keys/signer.pem" \
            -extfile <(printf 'basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=emailProtection,codeSigning\n') 2>/dev/null
fi
if [ ! -e "$keys/provisioning.pem" ]; then
    say "making keys for provisioning files in $keys"
    umask 077
    openssl genpkey -algorithm ed25519 -out "$keys/provisioning.key"
    openssl pkey -in "$keys/provisioning.key" -pubout -out "$keys/provisioning.pem"
fi
echo "$keys"
