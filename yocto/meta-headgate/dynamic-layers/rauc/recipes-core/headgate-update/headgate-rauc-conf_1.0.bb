SUMMARY = "RAUC's configuration for Headgate's two slots"
DESCRIPTION = "It has the certificate, too, that updates are checked with, and takes the place of rauc-conf."
SECTION = "base"
LICENSE = "Apache-2.0"
# nooelint: oelint.var.licenseremotefile
LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/Apache-2.0;md5=89aea4e17d99a7cacdbeed46a0096b10"

require headgate-compatible.inc

# The bootloader that counts boot attempts: uboot, barebox, grub or efi.
HEADGATE_BOOTLOADER ?= "uboot"

SRC_URI = "file://system.conf.in"

S = "${UNPACKDIR}"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install () {
    install -d ${D}${nonarch_libdir}/rauc
    sed -e 's|@COMPATIBLE@|${HEADGATE_COMPATIBLE}|' -e 's|@BOOTLOADER@|${HEADGATE_BOOTLOADER}|' ${S}/system.conf.in > ${D}${nonarch_libdir}/rauc/system.conf
    install -m 0644 ${RAUC_KEYRING_FILE} ${D}${nonarch_libdir}/rauc/keyring.pem
}
do_install[file-checksums] += "${RAUC_KEYRING_FILE}:True"

# nooelint: oelint.task.noanonpython
python () {
    """An image that takes nobody's updates is not built by accident."""
    if not (d.getVar("RAUC_KEYRING_FILE") or "").startswith("/"):
        raise bb.parse.SkipRecipe("RAUC_KEYRING_FILE must be the absolute path of the CA certificate that signs bundles")
}

PACKAGE_ARCH = "${MACHINE_ARCH}"
FILES:${PN} += "${nonarch_libdir}/rauc"

RPROVIDES:${PN} = "virtual-rauc-conf"
RCONFLICTS:${PN} = "rauc-conf"
