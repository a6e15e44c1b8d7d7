# shellcheck shell=bash disable=SC2034
# Raspberry Pi 3 and 4, arm64, from an SD card. Described, not tried on a board.
#
# The first stage is the maker's firmware, which is not free and is not fetched by this build: give its folder as FIRMWARE_DIR, with bootcode.bin,
# start.elf, start4.elf, fixup.dat and fixup4.dat, as Debian's package raspi-firmware (non-free-firmware) has them in usr/lib/raspi-firmware.
# U-Boot 2023.01 knows no watchdog of these boards: a kernel that hangs before systemd waits until the power is switched off and on.
# Wi-Fi wants firmware of its chip's maker, not free either: give the folder `brcm` as WIFI_FIRMWARE_DIR, as Debian's package firmware-brcm80211
# (non-free-firmware) has it in usr/lib/firmware. Without it there is no Wi-Fi.
BOARD_NAME="Raspberry Pi 3 and 4, arm64"
BOARD_COMPATIBLE=headgate-raspberry-pi-arm64
BOARD_UBOOT=rpi_arm64_defconfig
BOARD_UBOOT_TRUSTED=
BOARD_BOOT=("mmc 0" "mmc 1")
BOARD_CONSOLE=ttyS1,115200
BOARD_DTB=
BOARD_TABLE=hybrid # the maker's firmware of the 3 knows no GPT
BOARD_TREE='${fdt_addr}'
BOARD_MODULES=(
    drivers/mmc/host/bcm2835 drivers/mmc/host/sdhci-iproc drivers/mmc/host/sdhci drivers/mmc/core/ drivers/dma/bcm2835-dma
    drivers/net/usb/lan78xx drivers/net/usb/smsc95xx drivers/net/ethernet/broadcom/genet/ drivers/net/phy/microchip drivers/net/phy/smsc drivers/net/phy/broadcom drivers/net/phy/bcm7xxx
    drivers/net/wireless/broadcom/brcm80211/brcmfmac/
    drivers/usb/dwc2/ drivers/usb/host/xhci-pci drivers/pci/controller/pcie-brcmstb drivers/reset/reset-raspberrypi
    drivers/watchdog/bcm2835_wdt drivers/char/hw_random/iproc-rng200 drivers/char/hw_random/bcm2835-rng drivers/thermal/broadcom/ drivers/i2c/busses/i2c-bcm2835 drivers/spi/spi-bcm2835
)
BOARD_INITRAMFS=(bcm2835 sdhci-iproc mmc_block bcm2835-dma)

BOARD_BOOT_FILES() {
    [ -n "${FIRMWARE_DIR:-}" ] || fail "this board needs its maker's firmware: FIRMWARE_DIR=folder with bootcode.bin, start.elf, start4.elf, fixup.dat, fixup4.dat"
    cp "$FIRMWARE_DIR"/{bootcode.bin,start.elf,start4.elf,fixup.dat,fixup4.dat} "$1/"
    cp "$UBOOT/u-boot.bin" "$1/"
    local tree
    for tree in bcm2837-rpi-3-b bcm2837-rpi-3-b-plus bcm2711-rpi-4-b; do cp "$KERNEL/dtb/broadcom/$tree.dtb" "$1/"; done
    printf '%s\n' arm_64bit=1 kernel=u-boot.bin enable_uart=1 > "$1/config.txt"
}

BOARD_ROOT_FILES() {
    [ -n "${WIFI_FIRMWARE_DIR:-}" ] || { say "without WIFI_FIRMWARE_DIR this image has no Wi-Fi"; return; }
    install -d "$1/usr/lib/firmware/brcm"
    # Links lead out of the folder.
    cp -L "$WIFI_FIRMWARE_DIR"/brcmfmac434{30,55}-sdio* "$1/usr/lib/firmware/brcm/"
}
