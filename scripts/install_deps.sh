#!/usr/bin/env bash
# Installs what the build needs from the distribution's packages (Debian 12, Ubuntu 22.04 and 24.04), and only what is
# missing. As root, or through sudo.
#
# usage: install_deps.sh [--test] [--list]
#   --test  also what the tests need
#   --list  print the packages that are missing, install nothing
set -euo pipefail

packages=(gcc libc6-dev cmake ninja-build pkg-config libopenmpi-dev openmpi-bin libpng-dev libjpeg-dev zlib1g-dev
  libyaml-dev libyajl-dev libopenblas-dev libcairo2-dev)
list=0
for argument in "$@"; do
  case $argument in
    --test) packages+=(g++ libcmocka-dev clang-format-14 shellcheck git) ;;
    --list) list=1 ;;
    *)
      echo "install_deps.sh: unknown option $argument; usage: install_deps.sh [--test] [--list]" >&2
      exit 64
      ;;
  esac
done

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "install_deps.sh: this is no Debian or Ubuntu; install the equivalents of: ${packages[*]}" >&2
  exit 69
fi

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] || missing+=("$package")
done

[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$list" = 1 ]; then
  printf '%s\n' "${missing[@]}"
  exit 0
fi

as_root=()
if [ "$(id -u)" != 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "install_deps.sh: as root, run: apt-get install ${missing[*]}" >&2
    exit 77
  fi
  as_root=(sudo)
fi
echo "Installing: ${missing[*]}"
"${as_root[@]}" apt-get update -q
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
