#!/bin/bash
# Runs a command in what is committed here, on a fresh machine of a distribution that has git, make and ca-certificates and
# nothing else that Podling needs: a root file system with namespaces and control groups of its own, on this kernel.
#   tools/fresh.sh debian12|debian13|ubuntu2404 make demo
#   tools/fresh.sh --user debian13 make demo                        as a user who has sudo, not as root
#   tools/fresh.sh ubuntu2404 'make demo && make demo-stop'
# The first run for a distribution makes its root file system, which is kept in /var/cache/podling/fresh. Fails if the command
# fails, or if it leaves anything on the machine but packages and documented caches (tools/machine_state.py), which is named.
set -euo pipefail
cd "$(dirname "$0")/.."
usage() { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
user=root home=/root
if [ "${1:-}" = --user ]; then user=ada home=/home/ada; shift; fi
[ $# -gt 1 ] || usage
distribution=$1
shift
[ "$(id -u)" = 0 ] || { echo "fresh: a root file system is made by root: sudo tools/fresh.sh $distribution $*" >&2; exit 1; }
cache=/var/cache/podling/fresh
archive=$cache/$distribution.tar
debian=http://deb.debian.org
ubuntu=http://archive.ubuntu.com/ubuntu
case $distribution in
    debian12) suite=bookworm ;;
    debian13) suite=trixie ;;
    ubuntu2404) suite=noble ;;
    *) usage ;;
esac

missing=
for pair in mmdebstrap:mmdebstrap slirp4netns:slirp4netns nft:nftables ip:iproute2 python3:python3; do
    command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
done
if [ -n "$missing" ]; then
    echo "fresh: installing$missing ..."
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing >/dev/null
fi

work=$(mktemp -d /var/tmp/podling-fresh-XXXXXX)
root=$work/root keys=$work.keys
groups=() namespaces='' network=''
finish() {
    [ -z "$network" ] || kill "$network" 2>/dev/null || true
    [ -z "$namespaces" ] || kill -KILL "$namespaces" 2>/dev/null || true # and with it all that runs there
    wait 2>/dev/null
    for group in "${groups[@]}"; do find "$group" -depth -type d -exec rmdir {} +; done
    rm -rf --one-file-system "$work" "$keys"
}
trap finish EXIT
trap 'exit 130' INT TERM

if [ ! -e "$archive" ]; then
    echo "fresh: making the root file system of $distribution, which takes a minute or two ..."
    mkdir -p $cache
    packages=apt,git,make,ca-certificates
    if [ $suite = noble ]; then
        packages=$packages,ubuntu-keyring
        # Debian has no package of Ubuntu's keys.
        python3 -c 'import sys, urllib.request as u; sys.stdout.buffer.write(u.urlopen(sys.argv[1], timeout=60).read())' \
            $ubuntu/pool/main/u/ubuntu-keyring/ubuntu-keyring_2023.11.28.1_all.deb >"$work/keys.deb"
        echo "36de43b15853ccae0028e9a767613770c704833f82586f28eb262f0311adb8a8  $work/keys.deb" | sha256sum --quiet -c
        dpkg-deb -x "$work/keys.deb" "$keys" # where apt may read without being root
        signed="[signed-by=$keys/usr/share/keyrings/ubuntu-archive-keyring.gpg]"
        sources=("deb $signed $ubuntu noble main universe" "deb $signed $ubuntu noble-updates main universe"
            "deb $signed $ubuntu noble-security main universe")
    else
        sources=("deb $debian/debian $suite main" "deb $debian/debian $suite-updates main"
            "deb $debian/debian-security $suite-security main")
    fi
    mmdebstrap --variant=minbase --include="$packages" --format=tar $suite "$archive.new" \
        "${sources[@]}" 2>"$work/log" || { tail -n 20 "$work/log" >&2; exit 1; }
    mv "$archive.new" "$archive"
fi

mkdir "$root"
tar -C "$root" -xf "$archive"
sed -i 's/\[signed-by=[^]]*\] *//' "$root"/etc/apt/sources.list # the keys are in the package ubuntu-keyring
# Registries may be behind an authority that this machine trusts.
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
echo 'nameserver 10.0.2.3' >"$root/etc/resolv.conf"
echo "$distribution" >"$root/etc/hostname"
echo "127.0.0.1 localhost $distribution" >"$root/etc/hosts"
[ $user = root ] || chroot "$root" useradd -m -s /bin/bash $user
git bundle create -q "$work/commits" HEAD
git clone -q -c advice.detachedHead=false "$work/commits" "$root$home/podling"
chroot "$root" chown -R $user: "$home/podling"

# A control group of its own in every hierarchy, which the machine sees as the root.
while read -r _ directory type options _; do
    while IFS=: read -r _ controllers path; do
        case $type:,$options, in
            cgroup2:*) [ -z "$controllers" ] || continue ;;
            cgroup:*",$controllers,"*) [ -n "$controllers" ] || continue ;;
            *) continue ;;
        esac
        parent=$directory${path%/}
        mkdir "$parent/podling-fresh-$$"
        groups+=("$parent/podling-fresh-$$")
        if [ "$controllers" = cpuset ]; then
            for file in cpuset.cpus cpuset.mems; do cat "$parent/$file" >"$parent/podling-fresh-$$/$file"; done
        fi
    done </proc/self/cgroup
done </proc/self/mounts
join() { for group in "${groups[@]}"; do echo "$BASHPID" >"$group/cgroup.procs"; done; }

# Runs with the programs of this machine until pivot_root, and with those of the new one from there on.
# shellcheck disable=SC2016
boot='
set -eu
mounts=$(cat /proc/self/mounts)
mount --make-rprivate /
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t tmpfs -o mode=755,nosuid tmpfs dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o nosuid,nodev tmpfs dev/shm
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs run
mkdir dev/net
for node in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "kmsg 1 11" "tty 5 0" "net/tun 10 200" "fuse 10 229"; do
    set -- $node
    mknod -m 666 "dev/$1" c "$2" "$3"
done
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for link in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${link%:*}" "dev/${link#*:}"; done
while read -r _ directory type options _; do
    case $type:$directory in
        tmpfs:/sys/fs/cgroup) mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup ;;
        cgroup:* | cgroup2:*) mkdir -p ".$directory" && mount -t "$type" -o "$options" cgroup ".$directory" ;;
    esac
done <<<"$mounts"
cat etc/hostname >/proc/sys/kernel/hostname
echo 0 >/proc/sys/net/ipv4/ip_forward # a new namespace takes the value that it has here
ip link set lo up
mkdir .host
pivot_root . .host
exec chroot . /bin/bash -c "umount -l /.host && rmdir /.host && echo ready >&3 && exec 3>&-
    while :; do sleep infinity & wait; done" # which also collects orphans
'
mkfifo "$work/ready"
(join && exec unshare --mount --pid --fork --kill-child --net --uts --ipc --cgroup \
    bash -c "$boot" boot "$root" 3>"$work/ready" </dev/null) &
namespaces=$!
read -r _ <"$work/ready" || { echo "fresh: the machine does not start (see above)" >&2; exit 1; }
machine=$(tr -d ' ' <"/proc/$namespaces/task/$namespaces/children")
# Its way out, to package registries alone: no part of this machine's network changes for it.
slirp4netns --configure --mtu=65520 --disable-host-loopback "$machine" eth0 >"$work/network" 2>&1 &
network=$!

on_it() {
    local as=$1
    shift
    (join && exec nsenter --target "$machine" --all env -i HOME="$home" TERM="${TERM:-dumb}" LANG=C.UTF-8 CI="${CI:-}" \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
        runuser -u "$as" -- bash -c "cd '$home/podling' && $*")
}
state() { nsenter --target "$machine" --net python3 tools/machine_state.py --root "/proc/$machine/root" "$@"; }

on_it root 'timeout 15 bash -c "until grep -q eth0 /proc/net/route; do read -rt 0.1 <> <(:) || :; done"'
if [ $user != root ]; then
    on_it root 'apt-get -qq update && apt-get -qq install -y --no-install-recommends sudo' >"$work/log" 2>&1 ||
        { tail -n 20 "$work/log" >&2; exit 1; }
    echo "$user ALL=(ALL) NOPASSWD: ALL" >"$root/etc/sudoers.d/$user"
fi
state save "$work/before"
status=0
on_it $user "$*" || status=$?
state compare "$work/before" || status=$((status ? status : 1))
exit $status
