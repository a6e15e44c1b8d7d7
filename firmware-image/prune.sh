#!/usr/bin/env bash
# Takes out of the root file system in $1 what an appliance does not need: package management, Perl, ways to log in or to become somebody else.
set -euo pipefail
root=$1
[ -e "$root/etc/debian_version" ] || { echo "prune.sh: $root is no root file system" >&2; exit 1; }

# What is in it is still told.
install -d "$root/usr/share/headgate"
awk '/^Package: /{name=$2} /^Version: /{print name, $2}' "$root/var/lib/dpkg/status" | sort > "$root/usr/share/headgate/packages.txt"

cd "$root"
# Perl and package management.
rm -rf usr/bin/perl* usr/lib/*/perl usr/lib/*/perl-base usr/share/perl usr/share/perl5 usr/lib/*/libperl* etc/perl
rm -rf usr/bin/{dpkg*,apt*,debconf*,deb-*,update-alternatives} usr/sbin/{dpkg*,start-stop-daemon} usr/lib/{dpkg,apt} usr/share/{dpkg,debconf,debianutils,perl} etc/{apt,dpkg,debconf.conf,alternatives/README} var/lib/{dpkg,apt} var/cache/* var/log/*
find usr/share/doc -type l -delete
rm -rf usr/share/{bash-completion,zsh,fish,applications,pixmaps,menu,common-licenses/GFDL*,pam-configs,polkit-1,gdb,gcc,man,info,locale,lintian,bug,i18n,doc-base,tabset,keyrings,ca-certificates}
# Character sets that nothing here reads; a hardware database for names of devices that nobody looks at.
find usr/lib/*/gconv -type f ! -name 'UTF*' ! -name 'ISO8859-1.so' ! -name 'gconv-modules*' -delete
rm -rf usr/lib/udev/hwdb.bin usr/lib/udev/hwdb.d etc/udev/hwdb.bin usr/bin/systemd-hwdb usr/lib/systemd/catalog
# Terminfo, but for two; what only interactive people want.
find usr/share/terminfo usr/lib/terminfo lib/terminfo -type f ! -name linux ! -name dumb ! -name vt100 -delete 2>/dev/null || true
rm -rf usr/sbin/{useradd,userdel,usermod,groupadd,groupdel,groupmod,adduser,addgroup,deluser,delgroup,newusers,chpasswd,chgpasswd,vipw,vigr,pwck,grpck,pwconv,pwunconv,grpconv,grpunconv}
rm -rf usr/bin/{passwd,chfn,chsh,chage,gpasswd,newgrp,su,login,faillog,lastlog,expiry,sg} usr/sbin/{agetty,getty,sulogin,nologin}
ln -s ../bin/false usr/sbin/nologin
# Of iproute2 `ip` alone; of PPP and Wi-Fi the two programs that units here start, and nothing that is started by D-Bus, hooks or people. Processes are not looked at.
rm -rf usr/sbin/{tc,bridge,devlink,dcb,rdma,tipc,vdpa,genl,rtmon,rtacct,arpd} usr/bin/{ss,nstat,lnstat,rtstat,ctstat,routel,routef,ifcfg} usr/lib/tc
rm -rf usr/lib/pppd usr/bin/{pon,poff,plog} usr/sbin/{pppdump,pppstats,pppoe-discovery} etc/{chatscripts,wpa_supplicant,network} etc/{pam.d,logrotate.d}/ppp etc/ppp/* usr/share/ppp
rm -rf usr/sbin/{wpa_cli,wpa_action} usr/bin/wpa_passphrase usr/lib/systemd/system/wpa_supplicant* etc/systemd/system/*.wants/wpa_supplicant* etc/systemd/system/dbus-fi.w1.* \
    usr/share/dbus-1/system-services/fi.w1.* etc/dbus-1/system.d/wpa_supplicant.conf usr/lib/{NetworkManager,pm-utils}
rm -rf usr/bin/{ps,kill,free,pgrep,pkill,pidwait,pmap,pwdx,skill,slabtop,snice,tload,top,uptime,vmstat,w,watch} usr/sbin/sysctl
# Nothing gets the rights of somebody else by starting a program.
find . -xdev -perm /6000 -type f -exec chmod ug-s {} +
rm -rf boot/* tmp/* run/* var/tmp/* root/.[!.]*
