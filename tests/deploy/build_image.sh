#!/bin/sh
# Builds the images without a Docker engine and says how large they are, compressed as a registry keeps them.
#
#   apt-get install buildah debootstrap
#   tests/deploy/build_image.sh [serve|train …]
#
# The base is made here (Debian with Python 3.11), so nothing is pulled. BASE names another one. FLAGS goes to
# `buildah build`, for example `--volume /etc/pip.conf:/etc/pip.conf:ro` where packages come from a mirror.
set -eu
cd "$(dirname "$0")/../.."
SUITE=${SUITE:-bookworm}
BASE=${BASE:-localhost/athanor-base:$SUITE}
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs BUILDAH_FORMAT=docker
targets=${*:-serve}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ "$BASE" = "localhost/athanor-base:$SUITE" ] && ! buildah inspect --type image "$BASE" >/dev/null 2>&1; then
    echo "Making $BASE"
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv "$SUITE" "$work/root" \
        ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} >"$work/debootstrap.log" || { tail "$work/debootstrap.log"; exit 1; }
    rm -rf "$work"/root/var/cache/apt/* "$work"/root/var/lib/apt/lists/* "$work"/root/usr/share/doc/* \
        "$work"/root/usr/share/man/* "$work"/root/usr/share/locale/*
    container=$(buildah from scratch)
    buildah copy --quiet "$container" "$work/root" / >/dev/null
    buildah commit --quiet --rm "$container" "$BASE" >/dev/null
fi

for target in $targets; do
    # shellcheck disable=SC2086  # FLAGS is a list
    buildah build --layers ${FLAGS:-} --build-arg BASE="$BASE" --target "$target" --tag "athanor:$target" .
done

for target in $targets; do
    buildah push --quiet "athanor:$target" "dir:$work/$target" 2>/dev/null || buildah push "athanor:$target" "dir:$work/$target"
    python3 - "$work/$target" "$target" <<'PYTHON'
import json, sys
from pathlib import Path

folder, target = Path(sys.argv[1]), sys.argv[2]
manifest = json.loads((folder / "manifest.json").read_text())
config = json.loads((folder / manifest["config"]["digest"].removeprefix("sha256:")).read_text())
made_by = [line["created_by"] for line in config["history"] if not line.get("empty_layer")]
sizes = [layer["size"] for layer in manifest["layers"]]
for size, command in zip(sizes, made_by, strict=True):
    print(f"{size / 1e6:8.1f} MB  {command[:90]}")
print(f"{sum(sizes) / 1e6:8.1f} MB  {target}, compressed")
PYTHON
done
