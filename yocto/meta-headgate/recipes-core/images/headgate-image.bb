SUMMARY = "Headgate as an appliance"
DESCRIPTION = "A read-only system for two slots, data on a partition of its own, no password; what is special to a machine is the machine's."
SECTION = "base"
LICENSE = "Apache-2.0"

inherit core-image

IMAGE_FEATURES += "read-only-rootfs"
# Whatever a local.conf has for developers: nobody logs in without a key or a password of the product's own.
IMAGE_FEATURES:remove = "allow-empty-password allow-root-login empty-root-password serial-autologin-root"

# The kernel is in the slot, too: it is updated and falls back with its modules.
IMAGE_INSTALL = "\
    packagegroup-core-boot \
    ca-certificates \
    headgate \
    headgate-appliance \
    headgate-uplinks \
    kernel-image \
    kernel-modules \
    ${@'kernel-devicetree' if d.getVar('KERNEL_DEVICETREE') else ''} \
    ${CORE_IMAGE_EXTRA_INSTALL} \
"
IMAGE_LINGUAS = ""

# Who may log in as root over SSH: a file as ~/.ssh/authorized_keys. Without it there is no SSH server.
HEADGATE_SSH_KEYS ?= ""
IMAGE_FEATURES += "${@'ssh-server-dropbear' if d.getVar('HEADGATE_SSH_KEYS') else ''}"

# nooelint: oelint.task.docstrings
install_ssh_keys () {
    install -d -m 0700 ${IMAGE_ROOTFS}${ROOT_HOME}/.ssh
    install -m 0600 ${HEADGATE_SSH_KEYS} ${IMAGE_ROOTFS}${ROOT_HOME}/.ssh/authorized_keys
    # Keys instead of passwords (-s), in the place of nobody as root (-w).
    sed -i 's/^DROPBEAR_EXTRA_ARGS=.*/DROPBEAR_EXTRA_ARGS="-s"/' ${IMAGE_ROOTFS}${sysconfdir}/default/dropbear
    grep -q '^DROPBEAR_EXTRA_ARGS="-s"' ${IMAGE_ROOTFS}${sysconfdir}/default/dropbear
}
ROOTFS_POSTPROCESS_COMMAND += "${@'install_ssh_keys' if d.getVar('HEADGATE_SSH_KEYS') else ''}"
do_rootfs[file-checksums] += "${@d.getVar('HEADGATE_SSH_KEYS') + ':True' if d.getVar('HEADGATE_SSH_KEYS') else ''}"

# One slot for updates; and a whole disk, if the machine's IMAGE_FSTYPES have wic.
IMAGE_FSTYPES:append = " ext4"
WKS_FILE ?= "headgate.wks.in"
HEADGATE_BOOT_MB ?= "40"
HEADGATE_SLOT_MB ?= "512"
HEADGATE_DATA_MB ?= "256"
# What does not fit its slot is not built.
IMAGE_ROOTFS_MAXSIZE ?= "${@int(d.getVar('HEADGATE_SLOT_MB')) * 1024}"
