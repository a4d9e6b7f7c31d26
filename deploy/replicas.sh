#!/usr/bin/env bash
# etcd, two replicas of crumbd that follow it and write to it, and two load balancers in front of them: nginx for HTTP, haproxy for
# etcd's clients. As plain processes on loopback ports, in a temporary directory. A replica that ends is started again.
# Everything ends with this script.
#
# Settings are variables:
#   CRUMBD            the daemon's binary [target/release/crumbd of this clone, else crumbd on the PATH]
#   PREFIX            the keys in etcd to serve [app/]
#   LB_PORT           nginx [7820]
#   REPLICA_1_PORT    the first replica [7821]
#   REPLICA_2_PORT    the second one [7822]
#   ETCD_PORT         etcd for clients [7823]
#   ETCD_PEER_PORT    etcd for its peers, of which it has none [7824]
#   ETCD_LB_PORT      haproxy, for etcd's clients [7825]
#   REPLICA_1_ETCD_PORT  the first replica, for etcd's clients [7826]
#   REPLICA_2_ETCD_PORT  the second one [7827]
#   DIR               where pids, logs and data go; kept at the end [a temporary directory, removed at the end]
# CRUMBD_… variables reach the replicas: CRUMBD_STATE_INTERVAL=1s deploy/replicas.sh
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PREFIX=${PREFIX:-app/}
LB_PORT=${LB_PORT:-7820}
REPLICA_1_PORT=${REPLICA_1_PORT:-7821}
REPLICA_2_PORT=${REPLICA_2_PORT:-7822}
ETCD_PORT=${ETCD_PORT:-7823}
ETCD_PEER_PORT=${ETCD_PEER_PORT:-7824}
ETCD_LB_PORT=${ETCD_LB_PORT:-7825}
REPLICA_1_ETCD_PORT=${REPLICA_1_ETCD_PORT:-7826}
REPLICA_2_ETCD_PORT=${REPLICA_2_ETCD_PORT:-7827}
ready_within=30 # seconds

names=(etcd replica-1 replica-2 nginx haproxy)
declare -A pids=()
own_dir=

say() { printf '%s\n' "$*"; }

fail() {
  printf 'replicas.sh: %s\n' "$*" >&2
  exit 1
}

# What must be there, all of it said at once.
find_programs() {
  local missing=()
  # Debian keeps nginx and haproxy where only root's PATH leads.
  PATH=$PATH:/usr/local/sbin:/usr/sbin
  command -v etcd >/dev/null || missing+=("etcd is not installed (Debian: apt-get install etcd-server)")
  command -v nginx >/dev/null || missing+=("nginx is not installed (Debian: apt-get install nginx-light)")
  command -v haproxy >/dev/null || missing+=("haproxy is not installed (Debian: apt-get install haproxy)")
  command -v curl >/dev/null || missing+=("curl is not installed (Debian: apt-get install curl)")
  if [ -z "${CRUMBD:-}" ]; then
    CRUMBD=$here/../target/release/crumbd
    [ -x "$CRUMBD" ] || CRUMBD=crumbd
  fi
  command -v "$CRUMBD" >/dev/null ||
    missing+=("crumbd is not there as $CRUMBD: cargo build --release, or CRUMBD=path/to/crumbd")
  if [ ${#missing[@]} -gt 0 ]; then
    printf 'replicas.sh: %s\n' "${missing[@]}" >&2
    exit 127
  fi
}

# Somebody else's server on one of the ports would answer in place of ours.
ports_are_free() {
  local name
  for name in LB_PORT REPLICA_1_PORT REPLICA_2_PORT ETCD_PORT ETCD_PEER_PORT ETCD_LB_PORT \
    REPLICA_1_ETCD_PORT REPLICA_2_ETCD_PORT; do
    if (: <"/dev/tcp/127.0.0.1/${!name}") 2>/dev/null; then
      fail "port ${!name} is taken: choose another with $name=…"
    fi
  done
}

# run NAME COMMAND…: starts a child with its log and its pid in files; `exec`, so that the pid is the program's own.
run() {
  local name=$1
  shift
  (exec "$@") >>"$DIR/$name.log" 2>&1 </dev/null &
  pids[$name]=$!
  # Whoever waits for a new pid never reads half of one.
  say "$!" >"$DIR/$name.pid.new"
  mv "$DIR/$name.pid.new" "$DIR/$name.pid"
}

start() {
  case $1 in
    etcd)
      run etcd etcd --name etcd --data-dir "$DIR/etcd" --logger zap --log-level warn \
        --listen-client-urls "http://127.0.0.1:$ETCD_PORT" --advertise-client-urls "http://127.0.0.1:$ETCD_PORT" \
        --listen-peer-urls "http://127.0.0.1:$ETCD_PEER_PORT" \
        --initial-advertise-peer-urls "http://127.0.0.1:$ETCD_PEER_PORT" \
        --initial-cluster "etcd=http://127.0.0.1:$ETCD_PEER_PORT"
      ;;
    replica-1) start_replica replica-1 "$REPLICA_1_PORT" "$REPLICA_1_ETCD_PORT" ;;
    replica-2) start_replica replica-2 "$REPLICA_2_PORT" "$REPLICA_2_ETCD_PORT" ;;
    nginx)
      write_nginx_conf
      run nginx nginx -e stderr -p "$DIR/nginx" -c "$DIR/nginx/nginx.conf"
      ;;
    haproxy)
      run haproxy env LISTEN="127.0.0.1:$ETCD_LB_PORT" REPLICA_1="127.0.0.1:$REPLICA_1_ETCD_PORT" \
        REPLICA_2="127.0.0.1:$REPLICA_2_ETCD_PORT" haproxy -f "$here/haproxy.cfg"
      ;;
  esac
}

start_replica() {
  run "$1" "$CRUMBD" serve --listen "127.0.0.1:$2" --etcd-listen "127.0.0.1:$3" --state-dir "$DIR/$1" \
    --feed "etcd://127.0.0.1:$ETCD_PORT/$PREFIX?write=true"
}

# Everything that nginx writes is below its own directory, so that it needs no rights.
write_nginx_conf() {
  mkdir -p "$DIR/nginx/temp"
  sed -e "s|\${LISTEN}|127.0.0.1:$LB_PORT|g" -e "s|\${REPLICA_1}|127.0.0.1:$REPLICA_1_PORT|g" \
    -e "s|\${REPLICA_2}|127.0.0.1:$REPLICA_2_PORT|g" "$here/nginx.conf.template" >"$DIR/nginx/crumbd.conf"
  cat >"$DIR/nginx/nginx.conf" <<CONF
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events { worker_connections 1024; }
http {
    access_log off;
    client_body_temp_path temp/body;
    proxy_temp_path temp/proxy;
    fastcgi_temp_path temp/fastcgi;
    uwsgi_temp_path temp/uwsgi;
    scgi_temp_path temp/scgi;
    include crumbd.conf;
}
CONF
}

url_of() {
  case $1 in
    etcd) say "http://127.0.0.1:$ETCD_PORT/health" ;;
    replica-1) say "http://127.0.0.1:$REPLICA_1_PORT/readyz" ;;
    replica-2) say "http://127.0.0.1:$REPLICA_2_PORT/readyz" ;;
    nginx) say "http://127.0.0.1:$LB_PORT/readyz" ;;
    haproxy) say "http://127.0.0.1:$ETCD_LB_PORT/health" ;;
  esac
}

lives() { kill -0 "${pids[$1]}" 2>/dev/null; }

ended() {
  local status=0
  wait "${pids[$1]}" || status=$?
  tail -n 20 "$DIR/$1.log" >&2
  fail "$1 ended with status $status; above are its last words"
}

# A pause that a signal can end. The shell's own words about children that were killed are left out.
pause() {
  sleep 0.1 &
  { wait $! || true; } 2>/dev/null
}

wait_ready() {
  local name=$1 url until=$((SECONDS + ready_within))
  url=$(url_of "$name")
  until curl --noproxy '*' -fsS -m 5 -o "$DIR/health" "$url" 2>/dev/null; do
    lives "$name" || ended "$name"
    if [ $SECONDS -ge $until ]; then
      tail -n 20 "$DIR/$name.log" >&2
      fail "$name does not answer $url with 200 after $ready_within s; above are its last words"
    fi
    pause
  done
}

stop() {
  local status=$? name
  trap '' INT TERM HUP
  trap - EXIT
  # The load balancers first, so that no client is sent to what is going away; etcd last.
  for name in nginx haproxy replica-1 replica-2 etcd; do
    [ -n "${pids[$name]:-}" ] || continue
    kill -TERM "${pids[$name]}" 2>/dev/null || continue
    local until=$((SECONDS + 10))
    while lives "$name"; do
      [ $SECONDS -lt $until ] || kill -KILL "${pids[$name]}" 2>/dev/null || true
      pause
    done
  done
  [ -z "$own_dir" ] || rm -rf "$own_dir"
  exit "$status"
}

find_programs
ports_are_free
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
if [ -z "${DIR:-}" ]; then
  own_dir=$(mktemp -d "${TMPDIR:-/tmp}/crumbd-replicas.XXXXXX")
  DIR=$own_dir
fi
mkdir -p "$DIR"
DIR=$(cd "$DIR" && pwd)
if [ "$(id -u)" = 0 ]; then
  # nginx's workers give up root and must still reach their own directory.
  chmod a+x "$DIR"
fi

for name in "${names[@]}"; do
  start "$name"
  [ "$name" = replica-1 ] || wait_ready "$name" # both replicas start together
  [ "$name" != replica-2 ] || wait_ready replica-1
done

cat <<TEXT
nginx      http://127.0.0.1:$LB_PORT
haproxy    127.0.0.1:$ETCD_LB_PORT  for etcd's clients
replica 1  http://127.0.0.1:$REPLICA_1_PORT  pid in $DIR/replica-1.pid
replica 2  http://127.0.0.1:$REPLICA_2_PORT  pid in $DIR/replica-2.pid
etcd       http://127.0.0.1:$ETCD_PORT  keys below $PREFIX
logs       $DIR/*.log

Try, in another terminal:
  ETCDCTL_API=3 etcdctl --endpoints 127.0.0.1:$ETCD_PORT put ${PREFIX}greeting hello
  curl -i http://127.0.0.1:$LB_PORT/v1/breadcrumbs/current            # the whole state, and a cursor
  curl -i http://127.0.0.1:$LB_PORT/v1/breadcrumbs/CURSOR/next        # waits for the next change
  $CRUMBD follow --url http://127.0.0.1:$LB_PORT                 # does both, for ever
  $CRUMBD put --url http://127.0.0.1:$LB_PORT ${PREFIX}greeting hello  # a write at either replica …
  curl "http://127.0.0.1:$REPLICA_2_PORT/v1/kv?key=${PREFIX}greeting"   # … can be read at both
  ETCDCTL_API=3 etcdctl --endpoints 127.0.0.1:$ETCD_LB_PORT watch --prefix $PREFIX  # etcd's own client, which knows crumbd only
  kill \$(cat $DIR/replica-1.pid)    # the clients go on at replica 2; replica 1 comes back
Ctrl-C ends it all.
TEXT

while :; do
  pause
  for name in "${names[@]}"; do
    lives "$name" && continue
    case $name in
      replica-*)
        status=0
        wait "${pids[$name]}" || status=$?
        say "$name ended with status $status and is started again"
        start "$name"
        ;;
      *) ended "$name" ;;
    esac
  done
done
