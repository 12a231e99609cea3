#!/bin/sh
# A cluster and the first Pod in it. Arguments are flags for `podling up`. Can be run again at any time.
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH:/usr/sbin:/sbin"
registry=/var/cache/podling/demo-registry
conf=$registry/registries.conf

[ "$(id -u)" = 0 ] || { echo "demo: Pods need root: sudo make demo" >&2; exit 1; }

data_dir=/var/lib/podling
previous=
for word in "$@"; do
    [ "$previous" != --data-dir ] || data_dir=$word
    previous=$word
done

say() { printf '\n== %s\n' "$*"; }
show() { printf '$ %s\n' "$*"; "$@"; }

say "The image nginx"
if ! grep -qs "$conf" "$data_dir/config.json" && timeout 15 skopeo inspect --raw docker://docker.io/library/nginx:latest >/dev/null 2>&1; then
    echo "comes from docker.io"
else
    echo "docker.io is out of reach: built out of Debian's packages, pulled from a registry on this machine"
    python -m tools.registry start "$registry" >/dev/null
    set -- "$@" --registries-conf "$conf"
    registry_used=1
fi

say "The cluster"
if [ "${registry_used:-}" ] && [ -e "$data_dir/config.json" ] && ! grep -qs "$conf" "$data_dir/config.json"; then
    show podling down --data-dir "$data_dir" # it was started without the registry
fi
show podling up "$@"
KUBECONFIG=$data_dir/admin.kubeconfig
export KUBECONFIG

say "The Pod"
show kubectl apply -f examples/nginx.yaml
show kubectl wait --for=condition=Ready pod/nginx --timeout=90s
show kubectl get pods -o wide

say "Its page"
ip=$(kubectl get pod nginx -o 'jsonpath={.status.podIP}')
python - "$ip" <<'PYTHON'
import sys
import urllib.request

url = f"http://{sys.argv[1]}/"
print(f"GET {url}")
page = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10).read().decode()
print(next(line for line in page.splitlines() if "<h1>" in line))
PYTHON

flags=
[ "$data_dir" = /var/lib/podling ] || flags=" --data-dir $data_dir"
cat <<TEXT

== Next
export KUBECONFIG=$KUBECONFIG PATH=$PWD/.venv/bin:\$PATH
kubectl describe pod nginx
kubectl logs nginx
kubectl delete pod nginx
podling status$flags
podling down$flags       # stops Podling; Pods go on running
podling reset$flags      # removes the cluster from this machine
TEXT
[ -z "${registry_used:-}" ] || echo "make demo-stop     # removes the cluster, and the registry"
