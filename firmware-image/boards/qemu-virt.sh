# shellcheck shell=bash disable=SC2034
# QEMU's machine `virt` for arm64: the board that is tested. U-Boot is given to QEMU with -bios and is no part of the image.
BOARD_NAME="QEMU virt, arm64"
BOARD_COMPATIBLE=headgate-qemu-virt-arm64
BOARD_UBOOT=qemu_arm64_defconfig
BOARD_UBOOT_TRUSTED=
BOARD_BOOT=("virtio 0")
BOARD_CONSOLE=ttyAMA0,115200
BOARD_DTB=
BOARD_TREE='${fdtcontroladdr}'
BOARD_MODULES=(drivers/block/virtio_blk drivers/virtio/virtio_mmio drivers/virtio/virtio_pci drivers/net/virtio_net drivers/char/hw_random/virtio-rng drivers/rtc/rtc-pl031 drivers/watchdog/i6300esb)
BOARD_INITRAMFS=(virtio_blk virtio_mmio virtio_pci)
