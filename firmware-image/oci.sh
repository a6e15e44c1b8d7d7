#!/usr/bin/env bash
# One OCI image layout for all architectures, as a folder and as a tar archive that container engines load.
set -euo pipefail
cd "$(dirname "$0")"
. ./common.sh

need ca-certificates
[ $# -gt 0 ] || set -- "${ARCHES[@]}"
compgen -G "$WORK/apt/lists/*Packages*" > /dev/null || private_apt_update

images=()
for arch; do
    gnu=$(gnu_triple "$arch")
    # What the program is linked with: the loader, libc, libm, libgcc_s.
    libraries=$WORK/oci/$arch/libraries
    if [ ! -e "$WORK/oci/$arch/.complete" ]; then
        say "the C library of $arch: downloading"
        rm -rf "$WORK/oci/$arch"
        mkdir -p "$WORK/oci/$arch/debs" "$libraries/usr/lib/$gnu"
        (cd "$WORK/oci/$arch/debs" && private_apt apt-get -q -q download "libc6:$arch/bookworm" "libgcc-s1:$arch/bookworm" && for deb in *.deb; do dpkg -x "$deb" ../unpacked; done)
        from=$WORK/oci/$arch/unpacked
        cp -a "$from/lib/$gnu"/{libc.so.6,libm.so.6,libgcc_s.so.1,libdl.so.2,libpthread.so.0,libresolv.so.2,libnss_dns.so.2,libnss_files.so.2} "$libraries/usr/lib/$gnu/"
        ln -s usr/lib "$libraries/lib"
        # The loader, where programs look for it.
        find "$from/lib/$gnu" -maxdepth 1 -name 'ld-linux*' -exec cp -a {} "$libraries/usr/lib/$gnu/" \;
        for loader in "$libraries/usr/lib/$gnu"/ld-linux*; do ln -s "$gnu/$(basename "$loader")" "$libraries/usr/lib/$(basename "$loader")"; done
        if [ "$arch" = amd64 ]; then
            mkdir "$libraries/usr/lib64"
            ln -s "../lib/$gnu/ld-linux-x86-64.so.2" "$libraries/usr/lib64/ld-linux-x86-64.so.2"
            ln -s usr/lib64 "$libraries/lib64"
        fi
        mkdir -p "$libraries/etc/ssl/certs"
        install -m 644 /etc/ssl/certs/ca-certificates.crt "$libraries/etc/ssl/certs/"
        for deb in libc6 libgcc-s1; do install -D -m 644 "$from/usr/share/doc/$deb/copyright" "$libraries/usr/share/doc/$deb/copyright" 2>/dev/null || true; done
        rm -rf "$from" "$WORK/oci/$arch/debs"
        touch "$WORK/oci/$arch/.complete"
    fi
    program=$WORK/oci/$arch/program
    rm -rf "$program"
    install -D -m 755 "$BIN/$arch/headgate" "$program/usr/bin/headgate"
    install -D -m 644 packages/oci/headgate.toml "$program/etc/headgate/headgate.toml"
    install -D -m 644 "$ROOT/LICENSE" "$program/usr/share/doc/headgate/LICENSE"
    printf 'root:x:0:0:root:/:/bin/false\nheadgate:x:10001:10001:Headgate:/var/lib/headgate:/bin/false\n' > "$program/etc/passwd"
    printf 'root:x:0:\nheadgate:x:10001:\n' > "$program/etc/group"
    mkdir -p "$program/var/lib/headgate" "$program/tmp"
    images+=("$arch=$libraries,$program")
done

layout=$OUT/headgate-$PACKAGE_VERSION-oci
rm -rf "$layout"
python3 packages/oci/layout.py "$layout" "$PACKAGE_VERSION" "$(git -C "$ROOT" log -1 --format=%at)" "${images[@]}"
tar -C "$layout" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$(git -C "$ROOT" log -1 --format=%at)" -cf "$layout.tar" .
say "$(stat -c '%s bytes: %n' "$layout.tar")"
