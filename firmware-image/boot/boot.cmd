# U-Boot's boot script: takes the next slot that has tries left, writes down that it was tried, and starts its kernel. RAUC sets the variables.
#
# BOOT_ORDER            slots, the wanted one first
# BOOT_A_LEFT, ..._B_   tries that are left, in hexadecimal; a system that is well sets its own back to 3
#
# They are kept twice in the partition `env`, 512 KiB apart, in U-Boot's form for that: CRC-32, a counter, variables. The newest one that is whole
# counts, and the other one is written: a power cut in the middle leaves what was there. libubootenv does the same in Linux (/etc/fw_env.config).
# The caller has set devtype and devnum.

setenv size 4000
setenv blocks 20
setenv first_at ${pxefile_addr_r}
setexpr second_at ${first_at} + 8000

part start ${devtype} ${devnum} env first_block
setexpr second_block ${first_block} + 400
${devtype} read ${first_at} ${first_block} ${blocks}
${devtype} read ${second_at} ${second_block} ${blocks}

setenv BOOT_ORDER "A B"
setenv BOOT_A_LEFT 3
setenv BOOT_B_LEFT 3

# The counter of each copy is its fifth byte.
setexpr at ${first_at} + 4
setexpr.b first_count *${at}
setexpr at ${second_at} + 4
setexpr.b second_count *${at}

setenv first_whole 0
setenv second_whole 0
if env import -c ${first_at} ${size} BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT; then setenv first_whole 1; fi
if env import -c ${second_at} ${size} BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT; then setenv second_whole 1; fi

# Which is the newest? 0 comes after ff.
setenv newest none
if test ${first_whole} = 1 -a ${second_whole} = 0; then setenv newest first; fi
if test ${first_whole} = 0 -a ${second_whole} = 1; then setenv newest second; fi
if test ${first_whole} = 1 -a ${second_whole} = 1; then
    setenv newest first
    if itest ${second_count} > ${first_count}; then setenv newest second; fi
    if itest ${first_count} == ff && itest ${second_count} == 0; then setenv newest second; fi
    if itest ${second_count} == ff && itest ${first_count} == 0; then setenv newest first; fi
fi

setenv count 0
setenv write_block ${first_block}
if test ${newest} = first; then
    env import -c ${first_at} ${size} BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT
    setenv count ${first_count}
    setenv write_block ${second_block}
fi
if test ${newest} = second; then setenv count ${second_count}; fi
setexpr count ${count} + 1
setexpr count ${count} \& ff
echo "headgate: environment ${newest}, order ${BOOT_ORDER}, tries A ${BOOT_A_LEFT} B ${BOOT_B_LEFT}"

setenv slot none
for candidate in ${BOOT_ORDER}; do
    if test ${slot} = none; then
        if test ${candidate} = A && itest ${BOOT_A_LEFT} > 0; then
            setexpr BOOT_A_LEFT ${BOOT_A_LEFT} - 1
            setenv slot A
        fi
        if test ${candidate} = B && itest ${BOOT_B_LEFT} > 0; then
            setexpr BOOT_B_LEFT ${BOOT_B_LEFT} - 1
            setenv slot B
        fi
    fi
done

# No slot has a try left: nothing here runs. Better all over again than never.
if test ${slot} = none; then
    setenv BOOT_A_LEFT 3
    setenv BOOT_B_LEFT 3
    if test -z "${BOOT_ORDER}"; then setenv BOOT_ORDER "A B"; fi
fi

env export -c -s ${size} ${first_at} BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT
setexpr at ${first_at} + 4
mw.b ${at} ${count}
${devtype} write ${first_at} ${write_block} ${blocks}

if test ${slot} = none; then
    echo "headgate: no slot has tries left; all get their tries back"
    reset
fi

part number ${devtype} ${devnum} rootfs-${slot} partition
echo "headgate: slot ${slot}"
setenv bootargs "console=@CONSOLE@ quiet ro rauc.slot=${slot} systemd.volatile=state panic=10"
if load ${devtype} ${devnum}:${partition} ${kernel_addr_r} /boot/vmlinuz && load ${devtype} ${devnum}:${partition} ${ramdisk_addr_r} /boot/initrd.img; then
    setenv initrd_size ${filesize}
    setenv tree @TREE@
    if test -n "@DTB@"; then load ${devtype} ${devnum}:${partition} ${tree} /boot/dtb/@DTB@; fi
    booti ${kernel_addr_r} ${ramdisk_addr_r}:${initrd_size} ${tree}
fi
# It has no kernel, or one that does not start: that was one of its tries.
reset
