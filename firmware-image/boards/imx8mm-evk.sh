# shellcheck shell=bash disable=SC2034
# NXP i.MX 8M Mini EVK, from its SD card or eMMC. Described, not tried on a board.
#
# U-Boot's container has the maker's DDR training firmware (not free) and Arm Trusted Firmware, which this build does not fetch: give the finished
# container as FLASH_BIN, made as U-Boot's doc/board/nxp/imx8mm_evk.rst says, with the lines that `BOARD=imx8mm-evk ./u-boot.sh` writes.
# There is no Wi-Fi: the kernel's device tree of this board has the SDIO slot of its Wi-Fi module (mmc@30b40000) switched off.
BOARD_NAME="NXP i.MX 8M Mini EVK"
BOARD_COMPATIBLE=headgate-imx8mm-evk
BOARD_UBOOT=
BOARD_UBOOT_CONFIG=(CONFIG_IMX_WATCHDOG=y CONFIG_WATCHDOG_AUTOSTART=y CONFIG_WATCHDOG_TIMEOUT_MSECS=120000)
BOARD_UBOOT_TRUSTED="it wants DDR training firmware and Arm Trusted Firmware in one container"
BOARD_BOOT=("mmc 1" "mmc 2")
BOARD_CONSOLE=ttymxc1,115200
BOARD_DTB=freescale/imx8mm-evk.dtb
BOARD_TREE='${fdt_addr_r}'
BOARD_MODULES=(
    drivers/mmc/host/sdhci-esdhc-imx drivers/mmc/host/sdhci drivers/mmc/core/ drivers/net/ethernet/freescale/fec drivers/net/phy/at803x drivers/net/phy/realtek
    drivers/usb/chipidea/ drivers/usb/phy/phy-mxs-usb drivers/watchdog/imx2_wdt drivers/rtc/rtc-snvs drivers/rtc/rtc-imx-sc drivers/i2c/busses/i2c-imx drivers/dma/imx-sdma
    drivers/clk/imx/ drivers/pinctrl/freescale/ drivers/tty/serial/imx drivers/gpio/gpio-mxc drivers/regulator/bd718x7 drivers/mfd/rohm-bd718x7 drivers/soc/imx/ drivers/thermal/imx8mm_thermal
)
BOARD_INITRAMFS=(sdhci-esdhc-imx mmc_block clk-imx8mm pinctrl-imx8mm i2c-imx bd718x7-regulator gpio-mxc imx-sdma)

BOARD_RAW='
    partition u-boot {
        in-partition-table = false
        offset = 33K
        image = "flash.bin"
    }'
BOARD_BOOT_FILES() {
    [ -n "${FLASH_BIN:-}" ] || fail "this board needs U-Boot in one container with its maker's firmware: FLASH_BIN=file"
    cp "$FLASH_BIN" "$STAGE/flash.bin"
}
