#!/usr/bin/env bash
# Installs what is missing, builds with AddressSanitizer and UBSan and runs every test. The last line printed is CTest's count
# of passed tests. Arguments go to ctest, e.g. `scripts/test.sh -R config`.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install_deps.sh --test
cmake --preset asan -G Ninja
cmake --build --preset asan

report=build-asan/ctest-report.txt
result=0
ctest --preset asan --parallel "$(nproc)" "$@" 2>&1 | tee "$report" || result=$?
echo
grep 'tests passed' "$report" || true
exit "$result"
