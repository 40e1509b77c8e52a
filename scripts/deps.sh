#!/bin/sh
# Install the Debian packages that nibble needs, if any are missing. Says what it does.
#   scripts/deps.sh          to build and test
#   scripts/deps.sh clang    also clang and its runtimes, for the second compiler and the sanitizers
set -eu
packages="gcc libc6-dev make meson ninja-build pkg-config libopenblas-dev liblapacke-dev zlib1g-dev \
libcjson-dev libcmocka-dev libpcre2-dev libutf8proc-dev"
for extra in "$@"; do
    case $extra in
    clang) packages="$packages clang libomp-dev libclang-rt-14-dev" ;;
    *) echo "deps.sh: unknown group '$extra'" >&2; exit 2 ;;
    esac
done
command -v dpkg-query >/dev/null || { echo "deps.sh: not a Debian system; needed: $packages" >&2; exit 0; }
missing=
for p in $packages; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
echo "Installing Debian packages:$missing"
$sudo apt-get update -q >/dev/null
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q --no-install-recommends $missing >/dev/null
