#!/usr/bin/env bash
# Builds a real kube-apiserver (1.20.2) from Debian's source package `kubernetes`: kube-apiserver.sh OUTPUT
# About 6 minutes and 2 GB of disk on 2 cores, once; a binary that is there already is kept.
# It serves list (paged), watch, bookmarks, 410 Gone, CRDs, RBAC and tokens; not the streaming list (WatchList) of 1.32 and later.
set -euo pipefail
out=$(realpath -m "${1:?where to put the binary}")
[ -x "$out" ] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sudo=(); [ "$(id -u)" -eq 0 ] || sudo=(sudo)

# deb-src of the suite this machine already uses, in lists of its own.
uri=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources | head -n 1)
mkdir -p "$work"/{parts,lists/partial,go/src/k8s.io}
printf 'Types: deb-src\nURIs: %s\nSuites: bookworm\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' "$uri" >"$work/parts/src.sources"
apt=(-o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/parts" -o Dir::State::lists="$work/lists")
"${sudo[@]}" apt-get -qq update
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends golang-go dpkg-dev
"${sudo[@]}" apt-get "${apt[@]}" -qq update
(cd "$work" && apt-get "${apt[@]}" -qq source --download-only kubernetes && dpkg-source --no-check -x kubernetes_*.dsc src >/dev/null)

ln -s "$work/src" "$work/go/src/k8s.io/kubernetes"
cd "$work/go/src/k8s.io/kubernetes"
# reflect2 1.0.1 knows the maps of Go before 1.18, and crashes on those of later ones: what 1.0.2 changed.
reflect2=vendor/github.com/modern-go/reflect2
sed -i -e 's|// rest fields are ignored|t, h, buckets, bptr unsafe.Pointer; overflow, oldoverflow *[]unsafe.Pointer; startBucket uintptr; offset uint8; wrapped bool; b, i uint8; bucket, checkBucket uintptr|' \
  -e 's|^func mapiterinit(.*|func mapiterinit(rtype unsafe.Pointer, m unsafe.Pointer, it *hiter)\nfunc iterate(rtype, m unsafe.Pointer) *hiter { it := new(hiter); mapiterinit(rtype, m, it); return it }|' "$reflect2/unsafe_link.go"
sed -i 's|mapiterinit(type2|iterate(type2|' "$reflect2/unsafe_map.go"
grep -q checkBucket "$reflect2/unsafe_link.go" && grep -q 'iterate(type2' "$reflect2/unsafe_map.go"
export GO111MODULE=off CGO_ENABLED=0 GOFLAGS= GOPATH="$work/go" GOCACHE="$work/cache"
# The one file that the source package leaves to be generated.
go build -o "$work/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
packages=$(grep -rl --include='*.go' '+k8s:openapi-gen=true' vendor/k8s.io pkg staging/src | xargs -n1 dirname |
  sed 's#^staging/src/##; s#^vendor/##; s#^pkg#k8s.io/kubernetes/pkg#' | sort -u | grep -vE 'openapi/cmd|test/|gengo' | paste -sd,)
"$work/openapi-gen" --logtostderr -i "$packages" -p k8s.io/kubernetes/pkg/generated/openapi \
  -O zz_generated.openapi -h /dev/null -r "$work/violations" -o "$work/go/src" 2>/dev/null
mkdir -p "$(dirname "$out")"
go build -ldflags '-s -w' -o "$out" ./cmd/kube-apiserver
