#!/bin/sh
# A cluster and the first Pod in it.
#   tools/demo.sh start [FLAGS]    FLAGS are those of `podling up`; can be run again at any time
#   tools/demo.sh stop             takes down what `start` made: the cluster, the registry, their files
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH:/usr/sbin:/sbin"
# The registry, and what `stop` must know.
directory=${PODLING_DEMO:-/var/cache/podling/demo}
images=/var/cache/podling/test-images
registry=$directory/registry
conf=$registry/registries.conf
action=${1:-start}
[ $# = 0 ] || shift

[ "$(id -u)" = 0 ] || { echo "demo: Pods need root: sudo make demo" >&2; exit 1; }
# Who called sudo gets a kubeconfig, and commands with sudo in them.
caller=${SUDO_USER:-root}
[ "$caller" = root ] || as_caller="sudo "

say() { printf '\n== %s\n' "$*"; }
show() { printf '$ %s\n' "$*"; "$@"; }

stop() {
    status=0
    if [ -e "$directory/cluster" ]; then
        podling reset --data-dir "$(cat "$directory/cluster")" || status=$?
    else
        echo "demo: no cluster was started by make demo"
    fi
    [ ! -d "$registry" ] || python -m tools.registry stop "$registry" || status=$?
    rm -f demo.kubeconfig
    if [ $status = 0 ]; then
        rm -rf "$directory"
    else
        rm -rf "$registry"
        echo "demo: the cluster is not gone (see above); make demo-stop tries again" >&2
    fi
    [ ! -d $images ] || echo "Kept for next time: $images ($(du -sh $images | cut -f 1)), images built out of Debian's packages."
    exit $status
}

case $action in
    start) ;;
    stop) stop ;;
    *) sed -n '3,4s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac

data_dir=/var/lib/podling
previous=
for word in "$@"; do
    case $previous:$word in
        *:--data-dir=*) data_dir=${word#*=} ;;
        --data-dir:*) data_dir=$word ;;
    esac
    previous=$word
done
mkdir -p "$directory"
if [ "$(cat "$directory/cluster" 2>/dev/null)" != "$data_dir" ]; then
    if [ -e "$directory/cluster" ] && [ -e "$(cat "$directory/cluster")/config.json" ]; then
        echo "demo: its cluster in $(cat "$directory/cluster") is still there: make demo-stop first" >&2
        exit 1
    fi
    rm -f "$directory/cluster"
    # A cluster that was there before is used, and never taken down by `stop`.
    [ -e "$data_dir/config.json" ] || echo "$data_dir" >"$directory/cluster"
fi

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
KUBECACHEDIR=$directory/kubectl
export KUBECONFIG KUBECACHEDIR

say "The Pod"
show kubectl apply -f examples/nginx.yaml
if ! python - <<'PYTHON'
import subprocess
import sys
import threading

wait = ["kubectl", "wait", "--timeout=90s"]
print("$", *wait, "--for=condition=Ready", "pod/nginx", flush=True)
waiting = subprocess.Popen([*wait, "--for=condition=Ready", "pod/nginx"])
pressure = subprocess.Popen([*wait, "--for=condition=DiskPressure", "node", "--all"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
watch = ["kubectl", "get", "events", "--watch", "--no-headers", "--output=custom-columns=:.message"]
watch += ["--field-selector=involvedObject.kind=Pod,involvedObject.name=nginx,type=Warning"]
events = subprocess.Popen(watch, stdout=subprocess.PIPE, text=True)


def give_up_under_pressure() -> None:
    if pressure.wait() == 0:
        waiting.terminate()


def give_up_without_room() -> None:
    if any("no space left" in line for line in events.stdout):
        waiting.terminate()


# A disk that is full does not become larger by waiting.
threading.Thread(target=give_up_under_pressure, daemon=True).start()
threading.Thread(target=give_up_without_room, daemon=True).start()
status = waiting.wait()
events.kill()
pressure.kill()
sys.exit(status != 0)
PYTHON
then
    say "The Pod is not Ready. Its events"
    kubectl get events --sort-by=.lastTimestamp --field-selector involvedObject.kind=Pod,involvedObject.name=nginx ||
        podling status --data-dir "$data_dir" || true
    pressure='jsonpath={.items[*].status.conditions[?(@.type=="DiskPressure")].status}'
    if kubectl get events | grep -q "no space left" || kubectl get nodes -o "$pressure" | grep -q True; then
        say "The disk of $data_dir is full"
        df -h "$data_dir"
    fi
    echo "demo: the Pod did not become Ready (see above). ${as_caller:-}make demo-stop removes the cluster." >&2
    exit 1
fi
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
podling=podling
if [ "${as_caller:-}" ]; then
    install -m 600 -o "$caller" "$KUBECONFIG" demo.kubeconfig
    KUBECONFIG=$PWD/demo.kubeconfig
    podling="sudo $PWD/.venv/bin/podling"
fi
cat <<TEXT

== Next
export KUBECONFIG=$KUBECONFIG PATH=$PWD/.venv/bin:\$PATH
kubectl describe pod nginx
kubectl logs nginx
kubectl delete pod nginx
$podling status$flags
$podling down$flags       # stops Podling; Pods go on running
$podling reset$flags      # removes the cluster from this machine
TEXT
[ ! -e "$directory/cluster" ] || echo "${as_caller:-}make demo-stop     # removes the cluster, and what else make demo made"
