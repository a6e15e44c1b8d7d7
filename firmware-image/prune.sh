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
rm -rf usr/sbin/{useradd,userdel,usermod,groupadd,groupdel,groupmod,adduser,deluser,newusers,chpasswd,chgpasswd,vipw,vigr,pwck,grpck,pwconv,pwunconv,grpconv,grpunconv}
rm -rf usr/bin/{passwd,chfn,chsh,chage,gpasswd,newgrp,su,login,faillog,lastlog,expiry,sg} usr/sbin/{agetty,getty,sulogin,nologin}
ln -s ../bin/false usr/sbin/nologin
# Nothing gets the rights of somebody else by starting a program.
find . -xdev -perm /6000 -type f -exec chmod ug-s {} +
rm -rf boot/* tmp/* run/* var/tmp/* root/.[!.]*
