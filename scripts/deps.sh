#!/bin/sh
# SPDX-License-Identifier: MIT
# Install the Debian packages that nibble needs, if any are missing.
#   scripts/deps.sh [--say|--ask|--install] [clang]
# --say installs nothing, and fails when something is missing. --ask, unless given, installs for root and where CI is
# set; a person it asks first. --install installs. clang: also clang and its runtimes, for the second compiler and the
# sanitizers.
set -eu
packages="gcc libc6-dev make meson ninja-build pkg-config libopenblas-dev liblapacke-dev zlib1g-dev \
libcjson-dev libcmocka-dev libpcre2-dev libutf8proc-dev"
how=ask
for word in "$@"; do
    case $word in
    --say | --ask | --install) how=${word#--} ;;
    clang) packages="$packages clang libomp-dev libclang-rt-14-dev" ;;
    *) echo "deps.sh: unknown group '$word'" >&2; exit 2 ;;
    esac
done
command -v dpkg-query >/dev/null || { echo "deps.sh: not a Debian system; needed: $packages" >&2; exit 0; }
missing=
for p in $packages; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
sudo="sudo "
[ "$(id -u)" != 0 ] || sudo=
if [ "$how" = ask ]; then
    if [ -z "$sudo" ] || [ -n "${CI:-}" ]; then
        how=install
    elif [ -t 0 ] && [ -t 2 ]; then
        printf 'Debian packages are missing:%s\nInstall them with sudo apt-get? [y/N] ' "$missing" >&2
        read -r answer || answer=
        case $answer in [yY]*) how=install ;; esac
    fi
fi
if [ "$how" != install ]; then
    echo "Debian packages are missing. 'make deps' installs them, or:" >&2
    echo "  ${sudo}apt-get install$missing" >&2
    exit 1
fi
echo "Installing Debian packages:$missing"
# shellcheck disable=SC2086
{
    ${sudo}apt-get update -q >/dev/null
    ${sudo}env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing >/dev/null
}
