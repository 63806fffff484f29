#!/usr/bin/env bash
# The guest's first own program: boot.sh PROJECT PYTHON. Prepares the file systems and becomes the agent.
# The root file system is the host's over 9p, uncached; what programs are read from is mounted once more with a
# cache, which makes a Python import six times faster. Nothing of the host can be written.
set -euo pipefail
project=$1 python=$2
modules=$(readlink "/lib/modules/$(uname -r)")

for module in 9pnet_virtio virtio_console virtio_net; do modprobe "$module"; done
mkdir -p /run/lab
mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 lab /run/lab
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount --bind /run/lab/usr /usr
mount -t tmpfs tmpfs /usr/lib/modules
ln -s "/run/lab$modules" "/usr/lib/modules/$(uname -r)"
mkdir -p "$project"
mount --bind "/run/lab$project" "$project"

mkdir -p /var/cache/xdpguard
mount -t 9p -o trans=virtio,version=9p2000.L,rw,cache=none,msize=512000 bytecode /var/cache/xdpguard
# As systemd does on a host.
mount -t bpf -o mode=700 bpf /sys/fs/bpf
[[ -e /proc/sys/net/core/bpf_jit_enable ]] && echo 1 >/proc/sys/net/core/bpf_jit_enable
export XDPGUARD_STATE=/run/xdpguard-records  # /var is the host's
export HOME=/tmp PYTHONDONTWRITEBYTECODE=1 OPENBLAS_NUM_THREADS=1
cd /tmp
exec "$python" "$project/vmtests/vmlab/guest/agent.py"
