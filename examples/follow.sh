#!/bin/sh
# Prints each change of the state, for ever: sh examples/follow.sh http://localhost:7811
# Needs curl and jq. The first lines are the whole state, and so are those after a gap.
set -eu
base=${1:-http://localhost:7811} answer=$(mktemp -d)
trap 'rm -r "$answer"' EXIT
url=$base/v1/breadcrumbs/current
while :; do
  # The daemon waits up to 29 s for a change. An answer that does not come whole counts for nothing.
  status=$(curl -sS -m 60 -D "$answer/head" -o "$answer/body" -w '%{http_code}' "$url") || status=503
  case $status in
    200) jq -c '(.entries // .updates)[]' "$answer/body" ;;
    204) ;; # no change, but perhaps a newer cursor
    410) url=$base/v1/breadcrumbs/current && continue ;; # the cursor is gone: read the whole state again
    429 | 5??) sleep "$(sed -n 's/^retry-after: \([0-9]*\).*/\1/Ip' "$answer/head" 2>/dev/null | grep . || echo 1)" && continue ;;
    *) jq -r .detail "$answer/body" >&2 && exit 1 ;;
  esac
  url=$base$(sed -n 's/^link: <\([^>]*\)>.*/\1/Ip' "$answer/head")
done
