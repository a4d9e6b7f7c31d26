#!/usr/bin/env bash
# A clean Debian with systemd, as a directory, in which the package is tried: .ci/debian-root.sh DIR. It needs root and debootstrap.
set -euo pipefail
root=$1
if [ -e "$root/.complete" ]; then exit; fi
rm -rf "$root"
mkdir -p "$(dirname "$root")"
debootstrap --variant=minbase --include=systemd-sysv,dbus,curl,jq bookworm "$root" \
  "$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources | head -n 1)"
rm -rf "$root"/var/cache/apt/archives/*.deb
touch "$root/.complete"
