#!/usr/bin/env bash
# run_nvcc.sh LOG nvcc ARGUMENT...: keeps what the compiler says (ptxas -v) in LOG; shows it where compiling fails.
set -euo pipefail
log=$1
shift
if ! "$@" >"$log.part" 2>&1; then
  cat "$log.part" >&2
  exit 1
fi
mv "$log.part" "$log"
