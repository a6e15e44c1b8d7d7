# For the benchmarks, which read this file: Debian's packages of brokers to compare with.

# install SERVICE PACKAGES...: installs packages, of which one would start a broker of its own, the service: that is forbidden while it is installed, and from then on.
install() {
    service=$1
    shift
    sudo=""
    [ "$(id -u)" = 0 ] || sudo="sudo -n"
    policy=/usr/sbin/policy-rc.d
    ours=no
    if [ ! -e $policy ]; then
        ours=yes
        printf '#!/bin/sh\nexit 101\n' | $sudo tee $policy >/dev/null
        $sudo chmod +x $policy
        trap '$sudo rm -f $policy' EXIT
    fi
    $sudo apt-get update -q
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q --no-install-recommends "$@"
    [ $ours = no ] || $sudo rm -f $policy
    ! command -v systemctl >/dev/null || $sudo systemctl disable "$service" >/dev/null 2>&1 || true
}
