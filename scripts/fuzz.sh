#!/usr/bin/env bash
# Fuzzes the readers of files with libFuzzer, AddressSanitizer and UBSan. Needs clang and its run-time library
# (on Debian 12: clang libclang-rt-14-dev).
#
# usage: fuzz.sh [SECONDS per target, default 60] [TARGET, e.g. yaml; default all]
# What was learnt stays in build-fuzz/corpus/TARGET. An input that fails lies in build-fuzz/findings; once mended, it belongs
# into tests/fuzz/seeds/TARGET.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
only=${2:-}

command -v clang >/dev/null || { echo "fuzz.sh: clang is missing: apt-get install clang libclang-rt-14-dev" >&2; exit 69; }
cmake -S . -B build-fuzz -G Ninja -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS_DEBUG="-O1 -g" \
  -DENABLE_FUZZERS=ON -DSANITIZE=address,undefined >/dev/null
cmake --build build-fuzz
mkdir -p build-fuzz/findings

found=0
for source in tests/fuzz/fuzz_${only:-*}.c; do
  [ -f "$source" ] || { echo "fuzz.sh: there is no target $only in tests/fuzz" >&2; exit 64; }
  what=$(basename "$source" .c)
  what=${what#fuzz_}
  mkdir -p "build-fuzz/corpus/$what"
  echo "== $what: $seconds s"
  options=()
  [ ! -f "tests/fuzz/$what.dict" ] || options+=("-dict=tests/fuzz/$what.dict")
  if "build-fuzz/tests/fuzz/fuzz_$what" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="build-fuzz/findings/$what-" "${options[@]}" \
    "build-fuzz/corpus/$what" "tests/fuzz/seeds/$what" >"build-fuzz/$what.log" 2>&1; then
    grep -aE 'number_of_executed_units|new_units_added' "build-fuzz/$what.log"
  else
    tail -n 40 "build-fuzz/$what.log"
    found=1
  fi
done
[ "$found" = 0 ] || { echo "fuzz.sh: there are findings, see build-fuzz/findings" >&2; exit 1; }
