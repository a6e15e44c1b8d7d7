SUMMARY = "What makes a read-only image with a data partition out of Headgate"
DESCRIPTION = "Mounts the partition named data, keeps the gateway's data, its configuration and SSH host keys there, and says when a boot was good."
SECTION = "base"
LICENSE = "Apache-2.0"
# nooelint: oelint.var.licenseremotefile
LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/Apache-2.0;md5=89aea4e17d99a7cacdbeed46a0096b10"

SRC_URI = "\
    file://data.mount \
    file://etc-headgate.mount \
    file://headgate-good.service \
    file://tmpfiles.conf \
    file://var-lib-dropbear.mount \
    file://var-lib-headgate.mount \
    file://watchdog.conf \
"

S = "${UNPACKDIR}"

inherit allarch features_check systemd

REQUIRED_DISTRO_FEATURES = "systemd"

SYSTEMD_SERVICE:${PN} = "data.mount etc-headgate.mount headgate-good.service var-lib-dropbear.mount var-lib-headgate.mount"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install () {
    install -d ${D}/data ${D}${systemd_system_unitdir}
    install -m 0644 ${S}/*.mount ${S}/headgate-good.service ${D}${systemd_system_unitdir}/
    install -D -m 0644 ${S}/tmpfiles.conf ${D}${nonarch_libdir}/tmpfiles.d/headgate-appliance.conf
    install -D -m 0644 ${S}/watchdog.conf ${D}${systemd_unitdir}/system.conf.d/20-headgate-appliance.conf
}

FILES:${PN} += "\
    /data \
    ${nonarch_libdir}/tmpfiles.d \
    ${systemd_system_unitdir} \
    ${systemd_unitdir}/system.conf.d \
"

RDEPENDS:${PN} = "e2fsprogs-e2fsck headgate util-linux-fsck"
