#!/usr/bin/env bash
# test_bundle.sh BUNDLE_SCRIPT BUILD_FOLDER: makes a bundle of the build, which runs a training in itself, and runs the
# program from where it was moved to. Skipped (77) where Open MPI's components cannot be found.
set -euo pipefail
script=$1 build=$2
if ! command -v ompi_info >/dev/null; then
  echo "skipped: no ompi_info, so Open MPI's components cannot be found"
  exit 77
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

expect_failure() {
  local words=$1
  shift
  if said=$("$@" 2>&1); then
    echo "should have failed: $*"
    exit 1
  fi
  [[ $said == *"$words"* ]] || { echo "expected '$words' from $*: $said" && exit 1; }
}

mkdir "$folder/holiday_pictures"
expect_failure "is no bundle" "$script" --build "$build" --native --out "$folder/holiday_pictures"
expect_failure "no program in" "$script" --build "$folder" --out "$folder/made"
expect_failure "unknown argument" "$script" --holiday

"$script" --build "$build" --native --out "$folder/made" --limit 300
"$script" --build "$build" --native --out "$folder/made" --limit 300 # replaces its own
expect_failure "more than 1:" "$script" --build "$build" --native --out "$folder/made" --limit 1

mv "$folder/made" "$folder/moved here"
ln -s "$folder/moved here/bin/maskrcnn" "$folder/link"
cd /
env -u LD_LIBRARY_PATH "$folder/link" env >"$folder/said"
grep -q '^MPI  *Open MPI' "$folder/said"
grep -q '^CUDA ' "$folder/said"

# From outside come only the loader, the C library family and the compiler's own.
outside=$(LD_LIBRARY_PATH="$folder/moved here/lib" ldd "$folder/moved here"/libexec/* "$folder/moved here"/lib/*.so* |
  awk '$2 == "=>" && $0 !~ /moved here/ { print $1 }' | sort -u |
  grep -vxE 'lib(c|m|dl|rt|pthread|resolv|util)\.so\.[0-9]+|libgcc_s\.so\.1|libstdc\+\+\.so\.6' || true)
[ -z "$outside" ] || { echo "not in the bundle: $outside" && exit 1; }
