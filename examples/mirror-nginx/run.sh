#!/bin/sh
# nginx whose upstreams are keys of a daemon: they are rendered, checked and reloaded at each change.
#
#   crumbd serve                                             # in another terminal
#   examples/mirror-nginx/run.sh                             # http://localhost:8080
#   crumbd put upstreams/web/one 127.0.0.1:9001              # from now on /web/ goes there
#
# CRUMBD is the binary [crumbd], CRUMBD_URL the daemon, PORT nginx's port [8080], DIR where nginx's files go [a temporary
# directory].
set -eu
here=$(cd "$(dirname "$0")" && pwd)
crumbd=${CRUMBD:-crumbd}
dir=${DIR:-$(mktemp -d)}
for part in "$dir" "$dir/check"; do
  mkdir -p "$part/temp"
  cp "$here/nginx.conf" "$part/nginx.conf"
  echo "listen 127.0.0.1:${PORT:-8080};" >"$part/listen.conf"
done

# What nginx would refuse is never put in place.
check="cp \"\$1\" '$dir/check/upstreams.conf' && nginx -q -t -p '$dir/check' -c nginx.conf"
set -- template "$here/upstreams.conf.j2:$dir/upstreams.conf" --prefix upstreams/ --allow-empty --check "$check"

# The file is there before nginx starts. After that it is kept, and nginx reloaded.
"$crumbd" "$@" --once
nginx -p "$dir" -c nginx.conf &
nginx=$!
"$crumbd" "$@" --exec "kill -HUP $nginx" &
template=$!
trap 'kill $nginx $template 2>/dev/null; wait' EXIT
trap 'exit 0' INT TERM
wait $nginx
