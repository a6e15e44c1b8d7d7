# shellcheck shell=bash disable=SC2034
# The board that is built for. Sourced after common.sh.

BOARD=${BOARD:-qemu-virt}
[ -e "boards/$BOARD.sh" ] || fail "no board $BOARD; there are $(cd boards && echo *.sh | sed 's/\.sh//g')"
BOARD_BOOT_FILES() { :; }
BOARD_ROOT_FILES() { :; }
BOARD_RAW=
BOARD_TABLE=
BOARD_UBOOT_CONFIG=()
# shellcheck source=/dev/null
. "boards/$BOARD.sh"

UBOOT=$WORK/u-boot-$BOARD  # where its U-Boot is built
KERNEL=$WORK/kernel-arm64  # the kernel's package, unpacked: vmlinuz, modules, dtb
STAGE=$WORK/image-$BOARD   # parts of the image
