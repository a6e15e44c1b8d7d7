#!/usr/bin/env bash
# Lets this machine run programs of arm64 and armhf, by qemu-user, in other root file systems too.
set -euo pipefail
cd "$(dirname "$0")"
. ./common.sh

need qemu-user-static binfmt-support
registry=/proc/sys/fs/binfmt_misc
[ -e $registry/register ] || mount -t binfmt_misc binfmt_misc $registry
for emulator in qemu-aarch64 qemu-arm; do
    [ -e $registry/$emulator ] || update-binfmts --enable $emulator || true
    # F: the emulator is opened now, and need not be there in the other root file system.
    grep -qs '^flags:.*F' $registry/$emulator || fail "$emulator is not registered: this needs root, and a kernel with binfmt_misc"
done
