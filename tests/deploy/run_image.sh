#!/bin/sh
# Runs the commands of the `serve` image inside it, without a Docker engine, and asks the gateway for its health.
#   tests/deploy/build_image.sh serve && tests/deploy/run_image.sh
set -eu
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
PORT=${PORT:-18000}
key=$(python3 -c 'import secrets; print(secrets.token_urlsafe(32))')
container=$(buildah from --pull-never athanor:serve)
pid_file=$(buildah mount "$container")/tmp/gateway.pid  # isolation is chroot: its processes are ours to signal
trap 'if [ -e "$pid_file" ]; then kill "$(cat "$pid_file")"; wait; fi; buildah rm "$container" >/dev/null' EXIT

inside() { buildah run --env ATHANOR_API_KEY="$key" --env ATHANOR_PORT="$PORT" "$container" -- "$@"; }

inside sh -c 'echo "user $(id -u), $(python --version), $(du -sm /opt/athanor | cut -f1) MB in /opt/athanor"'
inside python -c 'import importlib.util as u; assert u.find_spec("torch") is None; print("no torch")'
inside athanor migrate
inside sh -c 'echo $$ >/tmp/gateway.pid; exec athanor serve --gateway-only' &
for _ in $(seq 100); do
    inside python -m app.healthcheck 2>/dev/null && break
    sleep 0.2
done
curl --fail --silent --show-error --header "Authorization: Bearer $key" "http://127.0.0.1:$PORT/health/live"
echo
curl --silent "http://127.0.0.1:$PORT/v1/models"
echo
