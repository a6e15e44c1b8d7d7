# Updates, where the distribution has RAUC.
IMAGE_INSTALL += "${@bb.utils.contains('DISTRO_FEATURES', 'rauc', 'rauc headgate-rauc-conf', '', d)}"
