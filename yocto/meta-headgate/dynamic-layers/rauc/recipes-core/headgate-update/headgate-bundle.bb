# nooelint: oelint.file.underscores,oelint.var.mandatoryvar.SRC_URI
SUMMARY = "An update of a Headgate appliance, signed"
DESCRIPTION = "headgate-image for one of the two slots. RAUC_KEY_FILE and RAUC_CERT_FILE say who signs."
SECTION = "base"
LICENSE = "Apache-2.0"

require headgate-compatible.inc
require recipes-connectivity/headgate/headgate-version.inc

PV = "${HEADGATE_VERSION}"

inherit bundle

RAUC_BUNDLE_FORMAT = "verity"
RAUC_BUNDLE_COMPATIBLE = "${HEADGATE_COMPATIBLE}"
RAUC_BUNDLE_SLOTS = "rootfs"
RAUC_SLOT_rootfs = "headgate-image"
RAUC_SLOT_rootfs[fstype] = "ext4"
