#!/usr/bin/env bash
# What a release consists of, in target/release-files: the static binary with the list of its crates in it, a bill of materials, and the
# checksums of both.
#
#   deploy/release.sh         everything (some minutes)
#   deploy/release.sh sbom    the bill of materials alone (a second; nothing is compiled)
#
# Settings are variables:
#   TARGET   what the binary is for [ARCHITECTURE-unknown-linux-musl of this machine, which needs no libc where it runs]
#   OUT      where the files go [target/release-files]
# It needs Rust, for musl a C compiler for it (Debian: apt-get install musl-tools), and installs the two cargo commands that it uses.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

TARGET=${TARGET:-$(uname -m)-unknown-linux-musl}
OUT=${OUT:-target/release-files}
what=${1:-all}
tools=$PWD/target/tools
export PATH="$tools/bin:$PATH" CARGO_TARGET_DIR=$PWD/target

fail() {
  printf 'release.sh: %s\n' "$*" >&2
  exit 1
}

# The same commit gives the same files.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH

install_command() {
  command -v "$1" >/dev/null || cargo install "$1" --version "$2" --locked --root "$tools"
}

sbom() {
  install_command cargo-cyclonedx 0.5.9
  # It writes a file beside the manifest of each package of the workspace.
  trap 'rm -f crumbd_bin.cdx.json benches/*.cdx.json' EXIT
  cargo cyclonedx -q --format json --spec-version 1.5 --target "$TARGET" --describe binaries
  # References to the package itself name the directory that it lies in here.
  sed "s|path+file://$PWD#|path+file:///crumbd#|g" crumbd_bin.cdx.json >"$OUT/crumbd.cdx.json"
  rm -f crumbd_bin.cdx.json benches/*.cdx.json
}

binary() {
  install_command cargo-auditable 0.7.7
  if command -v rustup >/dev/null; then rustup -q target add "$TARGET"; fi
  case $TARGET in
    *-musl)
      # On a system of musl, the plain compiler is one.
      local compiler=${TARGET%%-*}-linux-musl-gcc variable=${TARGET//-/_}
      command -v "$compiler" >/dev/null || compiler=musl-gcc
      command -v "$compiler" >/dev/null || compiler=
      [ -n "$compiler" ] || [ -e /etc/alpine-release ] || fail "no C compiler for $TARGET (Debian: apt-get install musl-tools)"
      [ -z "$compiler" ] || export "CC_$variable=${CC:-$compiler}"
      ;;
  esac
  CARGO_PROFILE_RELEASE_STRIP=symbols cargo auditable build --release --locked -p crumbd --bin crumbd --target "$TARGET"
  cp "target/$TARGET/release/crumbd" "$OUT/crumbd"
}

mkdir -p "$OUT"
case $what in
  all)
    sbom
    binary
    ;;
  sbom) sbom ;;
  *) fail "it is release.sh or release.sh sbom, not release.sh $what" ;;
esac
(cd "$OUT" && rm -f SHA256SUMS && sha256sum -- * >SHA256SUMS && cat SHA256SUMS)
