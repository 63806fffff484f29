#!/usr/bin/env bash
# PID 1 of a machine with systemd, until that takes its place. The kernel's command line gives it, as environment:
# lab_project, lab_python, virtme_link_mods.
# The root is the host's file system, read-only, below what the machine writes, which is lost with it, and systemd's
# own packages. Of the units of the host none is there. /etc/systemd and xdpguard's records are on the machine's disk.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
root=/mnt
share=(-t 9p -o "trans=virtio,version=9p2000.L,msize=512000")

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mountpoint -q /dev || mount -t devtmpfs devtmpfs /dev
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lab/{host,systemd,disk,written}
mount "${share[@]},ro,cache=loose" lab /run/lab/host
mount --bind /run/lab/host/usr /usr # with a cache, as in boot.sh
mount "${share[@]},ro,cache=loose" systemd /run/lab/systemd
mount -t tmpfs tmpfs /usr/lib/modules
ln -s "${virtme_link_mods:?}" "/usr/lib/modules/$(uname -r)"
modprobe -a overlay ext4 virtio_blk virtio_console

# Nothing gets to the disk but what a program syncs: a power cut is then as bad as it can be.
mount -t ext4 -o commit=3600 /dev/vda /run/lab/disk
echo 0 >/proc/sys/vm/dirty_writeback_centisecs
mount -t tmpfs tmpfs /run/lab/written
mkdir /run/lab/written/{upper,work}
layers="lowerdir=/run/lab/systemd:/run/lab/host,upperdir=/run/lab/written/upper"
mount -t overlay -o "$layers,workdir=/run/lab/written/work" root "$root"

mount --bind /run/lab/systemd/usr/lib/systemd "$root/usr/lib/systemd"
mount --bind /run/lab/disk/etc "$root/etc/systemd"
mkdir -p "$root/var/lib/xdpguard" "$root/var/cache/xdpguard"
mount --bind /run/lab/disk/records "$root/var/lib/xdpguard"
mount "${share[@]},rw,cache=none" bytecode "$root/var/cache/xdpguard"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mkdir -p "$root${lab_project:?}" # which may lie in /tmp
mount --bind "/run/lab/host$lab_project" "$root$lab_project"
mount -t tmpfs tmpfs "$root/var/log"
mount -t tmpfs tmpfs "$root/etc/init.d" # services of the host
mount --bind /usr/lib/modules "$root/usr/lib/modules"
: >"$root/etc/fstab"
rm -f "$root/.dockerenv" # in a container systemd does less
echo 00000000000000000000000000000001 >"$root/etc/machine-id" # without one, systemd enables what it likes
echo "${virtme_hostname:-lab}" >"$root/etc/hostname"

units=/run/systemd/system
mkdir -p $units/multi-user.target.wants
# Who logs in; without D-Bus. And what only takes time.
for unit in getty.target serial-getty@.service systemd-logind.service systemd-user-sessions.service \
    systemd-{binfmt,random-seed,sysusers,update-utmp}.service modprobe@.service \
    dev-{hugepages,mqueue}.mount sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount; do
    ln -s /dev/null $units/$unit
done
cat >$units/lab-agent.service <<END
[Unit]
Description=what the tests ask for
DefaultDependencies=no
After=multi-user.target
# No machine outlives its test.
SuccessAction=poweroff-immediate
FailureAction=poweroff-immediate
[Service]
Environment=HOME=/tmp PYTHONDONTWRITEBYTECODE=1 OPENBLAS_NUM_THREADS=1
WorkingDirectory=/tmp
ExecStart=${lab_python:?} ${lab_project:?}/vmtests/vmlab/guest/agent.py
END
ln -s ../lab-agent.service $units/multi-user.target.wants/
exec env -i PATH="$PATH" SYSTEMD_COLORS=0 switch_root "$root" /usr/lib/systemd/systemd
