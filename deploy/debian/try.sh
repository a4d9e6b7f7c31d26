#!/usr/bin/env bash
# Tries the Debian package as a new user would, in a clean Debian that is booted for it: deploy/debian/try.sh PACKAGE.deb ROOT.
#
# ROOT is a directory with a Debian and its systemd (.ci/debian-root.sh makes one); it stays as it is. Namespaces keep the
# booted system apart from this one: its own processes, mounts, network and cgroups. It needs root. Exit code 77: this
# system does not allow such namespaces.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

fail() {
  echo "FAILED: $*" >&2
  inside systemctl status crumbd --no-pager --full >&2 || true
  inside journalctl --unit crumbd --no-pager --lines 50 >&2 || true
  exit 1
}

# In the namespaces, before the boot: mounts what the booted system needs, and becomes its first process.
if [ "${1:-}" = --boot ]; then
  work=$2
  root=$work/root
  mount --make-rprivate /
  mount -t overlay overlay -o "lowerdir=$3,upperdir=$work/changes/upper,workdir=$work/changes/work" "$root"
  mount -t proc proc "$root/proc"
  mount -t sysfs -o ro sysfs "$root/sys"
  mount -t tmpfs tmpfs "$root/run"
  mount -t tmpfs tmpfs "$root/tmp"
  if mountpoint -q /sys/fs/cgroup/systemd; then
    mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
    mkdir "$root/sys/fs/cgroup/systemd"
    mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
  else
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
  fi
  cp "$4" "$root/root/crumbd.deb"
  # Not chroot: the kernel allows no user namespace (PrivateUsers=yes of the unit) to whoever is in one.
  mkdir "$root/outside"
  cd "$root"
  pivot_root . outside
  exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot . \
    sh -c 'umount --lazy /outside && exec /lib/systemd/systemd'
fi

package=$(realpath "$1") base=$(realpath "$2")
namespaces=(unshare --pid --mount --uts --ipc --net --cgroup --fork)
cannot() {
  echo "this system does not allow what a booted system needs: $*" >&2
  exit 77
}
"${namespaces[@]}" true 2>/dev/null || cannot "namespaces"

work=$(mktemp -d)
mkdir "$work/root" "$work/changes"
mount -t tmpfs tmpfs "$work/changes" || cannot "mounts"
mkdir "$work/changes/upper" "$work/changes/work"
# A cgroup of its own, so that its systemd does not see this system's processes.
group=/sys/fs/cgroup/systemd
mountpoint -q "$group" || group=/sys/fs/cgroup
group=$group/crumbd-try-$$
mkdir "$group" || cannot "cgroups"

systemd='' init=''
finish() {
  # The end of the first process ends all others of its namespace.
  if [ -n "$init" ]; then kill -9 "$init" 2>/dev/null || true; fi
  if [ -n "$systemd" ]; then wait "$systemd" 2>/dev/null || true; fi
  umount "$work/changes" || true
  rm -rf "$work"
  for _ in $(seq 50); do
    find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    [ -e "$group" ] || break
    sleep 0.1
  done
}
trap finish EXIT

bash -c 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"' _ "$group" \
  "${namespaces[@]}" "$here/try.sh" --boot "$work" "$base" "$package" </dev/null >"$work/boot.log" 2>&1 &
systemd=$!

inside() {
  nsenter --target "$init" --mount --pid --uts --ipc --net --cgroup --root --wd \
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "$@"
}

# Waits, for a minute, until a command succeeds in the booted system.
until_inside() {
  local what=$1
  shift
  for _ in $(seq 300); do
    if inside "$@" >"$work/last" 2>&1; then return; fi
    sleep 0.2
  done
  cat "$work/last" "$work/boot.log" >&2
  fail "not within a minute: $what"
}

for _ in $(seq 100); do
  init=$(pgrep --parent "$systemd" || true)
  if [ -n "$init" ] && [ -d "$work/root" ]; then break; fi
  sleep 0.1
done
is_up() {
  for _ in $(seq 300); do
    case $(inside systemctl is-system-running 2>/dev/null) in running | degraded) return ;; esac
    sleep 0.2
  done
  return 1
}
if ! is_up; then
  cat "$work/boot.log" >&2
  cannot "systemd does not come up in its namespaces"
fi

echo "== a new user installs it: the blocks of deploy/README.md, section \"Debian and Ubuntu\""
# Each block of the section, as it stands there.
awk '/^##? / { wanted = ($0 == "## Debian and Ubuntu") } wanted' "$here/../README.md" |
  awk '/^```/ { inside = !inside; next } inside' | sed 's/sudo //' >"$work/blocks"
[ -s "$work/blocks" ] || fail "deploy/README.md has no section \"Debian and Ubuntu\" with commands"
cat "$work/blocks"
inside bash -euxo pipefail -c "cd /root && $(cat "$work/blocks")" || fail "a command of the section"

[ "$(inside systemctl is-active crumbd)" = active ] || fail "the service is not active"
[ "$(inside crumbd get greeting)" = hello ] || fail "the value of the section is not there"
inside systemctl show crumbd --property StatusText --value | grep -q "in-sync, 1 key" || fail "systemctl status does not say what is served"
user=$(inside stat -c %U "/proc/$(inside systemctl show crumbd --property MainPID --value)")
[ "$user" != root ] || fail "the daemon runs as root"

echo "== the unit"
inside systemd-analyze verify --man=no crumbd.service || fail "the unit has a fault"
inside systemd-analyze security --threshold=20 --no-pager crumbd.service | tail -n 1 || fail "the exposure is more than 2.0"

echo "== a restart keeps the state"
inside systemctl restart crumbd
[ "$(inside crumbd get greeting)" = hello ] || fail "the state is lost by a restart"

echo "== SIGHUP is a reload"
inside systemctl reload crumbd
until_inside "a line about the reload" bash -c 'journalctl --unit crumbd --no-pager | grep -q SIGHUP'

echo "== a daemon that hangs is restarted by the watchdog"
inside bash -c 'mkdir -p /run/systemd/system/crumbd.service.d && printf "[Service]\nWatchdogSec=2s\n" >/run/systemd/system/crumbd.service.d/try.conf'
inside systemctl daemon-reload
inside systemctl restart crumbd
before=$(inside systemctl show crumbd --property MainPID --value)
inside bash -c "kill -STOP $before"
until_inside "another process serves" bash -c "[ \"\$(systemctl show crumbd --property MainPID --value)\" != $before ] && crumbd health"
inside journalctl --unit crumbd --no-pager | grep -q -i "watchdog timeout" || fail "it was not the watchdog"
[ "$(inside crumbd get greeting)" = hello ] || fail "the state is lost by a kill"

echo "== an upgrade restarts it, and keeps settings and state"
inside bash -c 'echo "# changed" >>/etc/crumbd/crumbd.toml'
before=$(inside systemctl show crumbd --property MainPID --value)
inside dpkg -i /root/crumbd.deb
until_inside "another process serves" bash -c "[ \"\$(systemctl show crumbd --property MainPID --value)\" != $before ] && crumbd health"
inside grep -q "# changed" /etc/crumbd/crumbd.toml || fail "the upgrade took the settings away"
[ "$(inside crumbd get greeting)" = hello ] || fail "the state is lost by an upgrade"

echo "== removed, and purged"
inside dpkg --purge crumbd
if inside systemctl is-active crumbd >/dev/null; then fail "the service goes on without its package"; fi
if inside test -e /etc/crumbd/crumbd.toml; then fail "the purge left the settings"; fi
inside test -d /var/lib/private/crumbd || fail "the purge took the data away"

echo "the package works in a clean system"
