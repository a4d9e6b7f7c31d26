#!/usr/bin/env bash
# Builds the Debian package: target/debian/crumbd_VERSION_ARCH.deb. It needs cargo-deb (cargo install cargo-deb) and dpkg-dev.
# PROFILE=dev packs a debug build, which is faster to make: for tests.
set -euo pipefail
cd "$(dirname "$0")/../.."

profile=${PROFILE:-release}
case $profile in
  dev) built=target/debug ;;
  *) built=target/$profile ;;
esac
cargo build --locked --package crumbd --profile "$profile"

made=target/generated/debian
rm -rf "$made"
mkdir -p "$made/completions"
"$built/crumbd" man "$made/man"
"$built/crumbd" completions bash >"$made/completions/crumbd"
"$built/crumbd" completions zsh >"$made/completions/_crumbd"
"$built/crumbd" completions fish >"$made/completions/crumbd.fish"
"$built/crumbd" config example >"$made/crumbd.toml.example"

cargo deb --no-build --package crumbd --profile "$profile" "$@"
