#!/bin/bash
# Runs a command in what is committed here, on a new Debian machine: systemd, control groups of version 2 alone, AppArmor,
# and nothing installed that Podling needs. The machine is emulated, ten times slower than this one where there is no KVM.
#   tools/vm.sh make demo
#   tools/vm.sh 'make test; journalctl --no-pager -p warning'
# The first run makes its disk; later ones start from the same disk, of which nothing changes.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2; }
[ "$(uname -m)" = x86_64 ] || { echo "vm: written for x86_64" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "vm: a root file system is made by root: sudo $0 $*" >&2; exit 1; }
directory=/var/cache/podling/vm
disk=$directory/disk.img
packages=systemd-sysv,dbus,udev,apparmor,kmod,procps,iproute2,ifupdown,isc-dhcp-client,openssh-server
packages=$packages,linux-image-cloud-amd64,initramfs-tools,make,git,ca-certificates

missing=
for pair in qemu-system-x86_64:qemu-system-x86 debootstrap:debootstrap mke2fs:e2fsprogs ssh:openssh-client; do
    command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
done
if [ -n "$missing" ]; then
    echo "vm: installing$missing ..."
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing >/dev/null
fi

if [ ! -e $disk ]; then
    echo "vm: making its disk, which takes some minutes ..."
    rm -rf --one-file-system $directory
    mkdir -p -m 0700 $directory
    root=$directory/root
    debootstrap --variant=minbase --include="$packages" bookworm $root >$directory/debootstrap.log 2>&1 ||
        { tail -n 20 $directory/debootstrap.log >&2; exit 1; }
    ssh-keygen -q -t ed25519 -N '' -f $directory/key
    install -D -m 0600 $directory/key.pub $root/root/.ssh/authorized_keys
    printf 'auto eth0\niface eth0 inet dhcp\n' >>$root/etc/network/interfaces
    echo '/dev/vda / ext4 defaults 0 1' >$root/etc/fstab
    echo podling >$root/etc/hostname
    # Registries may be behind an authority that this machine trusts.
    cp -L /etc/ssl/certs/ca-certificates.crt $root/etc/ssl/certs/
    echo 'PIP_CERT=/etc/ssl/certs/ca-certificates.crt' >>$root/etc/environment
    cp $root/boot/vmlinuz-* $directory/kernel
    cp $root/boot/initrd.img-* $directory/initrd
    truncate -s 16G $disk.new
    mke2fs -q -t ext4 -d $root $disk.new
    rm -rf --one-file-system $root
    mv $disk.new $disk
fi

work=$(mktemp -d /var/tmp/podling-vm-XXXXXX)
trap '[ -z "${machine:-}" ] || kill "$machine" 2>/dev/null || true; wait; rm -rf "$work"' EXIT
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
git bundle create -q "$work/commits" HEAD
accel=tcg,thread=multi
if grep -qwE 'vmx|svm' /proc/cpuinfo && [ -w /dev/kvm ]; then accel=kvm; fi
TMPDIR=$work qemu-system-x86_64 -machine q35 -cpu max -smp 2 -m 4096 -nographic -no-reboot -snapshot \
    -accel $accel \
    -kernel $directory/kernel -initrd $directory/initrd -append 'console=ttyS0 root=/dev/vda rw net.ifnames=0' \
    -drive file=$disk,if=virtio,format=raw,cache=unsafe -device virtio-rng-pci \
    -netdev "user,id=net,hostfwd=tcp:127.0.0.1:$port-:22" -device virtio-net-pci,netdev=net \
    </dev/null >"$work/console" 2>&1 &
machine=$!
on_it() {
    ssh -q -i $directory/key -p "$port" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
        -o ConnectTimeout=5 -o ServerAliveInterval=30 root@127.0.0.1 "$@"
}
echo "vm: starting ($accel) ..."
tries=0
until on_it true 2>/dev/null; do
    tries=$((tries + 1))
    kill -0 $machine 2>/dev/null && [ $tries -lt 120 ] || { tail -n 20 "$work/console" >&2; exit 1; }
    sleep 2
done
on_it 'cat >commits && git clone -q -c advice.detachedHead=false commits podling' <"$work/commits"
on_it "cd podling && $*"
