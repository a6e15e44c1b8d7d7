SUMMARY = "Multi-protocol IoT gateway: MQTT, MQTT-SN, CoAP, LwM2M, STOMP"
DESCRIPTION = "Sensors, machines and clouds meet on one publish/subscribe bus that keeps what it acknowledged."
SECTION = "network"
CVE_PRODUCT = "headgate"
# The crates are linked into the program; theirs are the licences after the first.
LICENSE = "Apache-2.0 & BSD-2-Clause & BSD-3-Clause & BlueOak-1.0.0 & ISC & MIT & MPL-2.0 & Unicode-3.0 & Zlib"
LIC_FILES_CHKSUM = "file://LICENSE;md5=3b83ef96387f14655fc854ddc3c6bd57"

require headgate-crates.inc
require headgate-version.inc

PV = "${HEADGATE_VERSION}+git"

# The layer is a folder of the gateway's repository, and what is built is the commit that is checked out there: the list of crates
# and Cargo.lock are of one commit. A layer that was copied elsewhere names a repository and a revision.
HEADGATE_REPOSITORY ?= "${@os.path.abspath(d.getVar('THISDIR') + '/../../../..')}"
HEADGATE_GIT ?= "git://${HEADGATE_REPOSITORY};protocol=file;nobranch=1;usehead=1"
HEADGATE_REVISION ?= "${AUTOREV}"

# The pages of the web UI, as `make web-dist` builds them, are the same for every machine. Built here they would need nodejs of
# meta-oe, and programs of Node packages (esbuild, rolldown) that are there as binaries only.
HEADGATE_PAGES ?= "file://${HEADGATE_REPOSITORY}/target/web-dist/headgate-pages.tar.gz"

# The unit, below the gateway's sources.
HEADGATE_UNIT ?= "firmware-image/packages/headgate.service"

SRC_URI += "\
    ${HEADGATE_GIT} \
    file://headgate-network.service \
    file://headgate.toml \
"
SRC_URI:append = " ${@bb.utils.contains('PACKAGECONFIG', 'pages', '${HEADGATE_PAGES};subdir=${BP}', '', d)}"
SRCREV = "${HEADGATE_REVISION}"

inherit cargo features_check systemd useradd

REQUIRED_DISTRO_FEATURES = "systemd"

PACKAGECONFIG ??= "pages"
PACKAGECONFIG[pages] = ""

# The program, without what the workspace has for tests.
CARGO_BUILD_FLAGS:append = " --package headgate"

# Wi-Fi, modems and several ways out, with the scripts and units of the image that is made of Debian. What of it lasts is in HEADGATE_STATE.
PACKAGE_BEFORE_PN = "${PN}-uplinks"
HEADGATE_STATE ?= "/data/system"

SYSTEMD_PACKAGES = "${PN} ${PN}-uplinks"
SYSTEMD_SERVICE:${PN} = "headgate.service"
SYSTEMD_SERVICE:${PN}-uplinks = "headgate-network.service headgate-wan.path"

USERADD_PACKAGES = "${PN}"
USERADD_PARAM:${PN} = "--system --user-group --home-dir ${localstatedir}/lib/headgate --no-create-home --shell ${base_sbindir}/nologin headgate"

FILES:${PN}-uplinks += "\
    ${datadir}/headgate/pppd.options \
    ${nonarch_libdir}/headgate \
    ${nonarch_libdir}/sysctl.d \
    ${systemd_system_unitdir}/headgate-cellular@.service \
    ${systemd_system_unitdir}/headgate-network.service \
    ${systemd_system_unitdir}/headgate-wan.path \
    ${systemd_system_unitdir}/headgate-wan.service \
    ${systemd_system_unitdir}/headgate-wifi@.service \
    ${systemd_unitdir}/networkd.conf.d \
"

RDEPENDS:${PN}-uplinks = "${PN} iproute2-ip ppp util-linux-setpriv wpa-supplicant"
# CA certificates for uplinks with TLS.
RRECOMMENDS:${PN} = "ca-certificates"
RRECOMMENDS:${PN}-uplinks = "kernel-module-cfg80211 kernel-module-ppp-async wireless-regdb-static"

CONFFILES:${PN} = "${sysconfdir}/headgate/headgate.toml"

# nooelint: oelint.task.noanonpython
python () {
    """What is missing is told before anything is built; a gateway without its pages is not what users expect, and not built by accident."""
    def wants(path, remedy):
        bb.parse.mark_dependency(d, path)
        if not os.path.exists(path):
            raise bb.parse.SkipRecipe(f"{path} is not there: {remedy}")

    if d.getVar("HEADGATE_GIT").startswith("git://" + d.getVar("HEADGATE_REPOSITORY") + ";"):
        wants(d.getVar("HEADGATE_REPOSITORY") + "/.git", "set HEADGATE_GIT and HEADGATE_REVISION")
    pages = d.getVar("HEADGATE_PAGES")
    if "pages" in d.getVar("PACKAGECONFIG").split() and pages.startswith("file:///"):
        wants(pages.removeprefix("file://").split(";")[0], "run `make web-dist`, set HEADGATE_PAGES, or take `pages` out of PACKAGECONFIG")
}

# The pages say of which state of gateway/web they are.
do_configure:append () {
    if ${@bb.utils.contains('PACKAGECONFIG', 'pages', 'true', 'false', d)}; then
        expected=$(git -C ${S} rev-parse HEAD:gateway/web)
        [ "$(cat ${S}/gateway/web/dist.commit)" = "$expected" ] || bbwarn "the pages are not those of this commit: make web-dist"
    fi
}

do_install:append () {
    install -D -m 0644 ${S}/${HEADGATE_UNIT} ${D}${systemd_system_unitdir}/headgate.service
    install -d -m 0750 -o headgate -g headgate ${D}${sysconfdir}/headgate
    install -m 0640 -o headgate -g headgate ${UNPACKDIR}/headgate.toml ${D}${sysconfdir}/headgate/headgate.toml

    image=${S}/firmware-image/root
    install -d ${D}${nonarch_libdir}/headgate ${D}${datadir}/headgate
    install -m 0755 $image/usr/lib/headgate/cellular-up $image/usr/lib/headgate/links $image/usr/lib/headgate/modem $image/usr/lib/headgate/wan $image/usr/lib/headgate/wifi ${D}${nonarch_libdir}/headgate/
    install -m 0644 $image/usr/share/headgate/pppd.options ${D}${datadir}/headgate/
    install -m 0644 $image/usr/lib/systemd/system/headgate-cellular@.service $image/usr/lib/systemd/system/headgate-wan.path \
        $image/usr/lib/systemd/system/headgate-wan.service $image/usr/lib/systemd/system/headgate-wifi@.service \
        ${UNPACKDIR}/headgate-network.service ${D}${systemd_system_unitdir}/
    install -D -m 0644 $image/etc/systemd/networkd.conf.d/headgate.conf ${D}${systemd_unitdir}/networkd.conf.d/20-headgate.conf
    # Here the data are elsewhere.
    sed -i -e 's|/data/system|${HEADGATE_STATE}|' ${D}${systemd_system_unitdir}/headgate-cellular@.service ${D}${systemd_system_unitdir}/headgate-network.service ${D}${nonarch_libdir}/headgate/modem
    sed -i -e 's|^RequiresMountsFor=.*|RequiresMountsFor=${HEADGATE_STATE}|' ${D}${systemd_system_unitdir}/headgate-cellular@.service
    install -d ${D}${nonarch_libdir}/sysctl.d
    # Loose: an answer may come by another interface than the one that leads out now.
    echo 'net.ipv4.conf.all.rp_filter = 2' > ${D}${nonarch_libdir}/sysctl.d/60-headgate.conf
}
