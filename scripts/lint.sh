#!/usr/bin/env bash
# Checks what no compiler checks: formatting (clang-format 14, the version the style file is written for), shell scripts,
# unique file names, sizes of files and functions, words that mark unfinished work. Prints every finding; exit 1 if any.
set -euo pipefail
cd "$(dirname "$0")/.."

failed=0
finding() {
  printf '%s\n' "$*"
  failed=1
}

mapfile -t c_files < <(find src kernels tests -name '*.[ch]' | sort)
mapfile -t cuda_files < <(find src kernels tests -name '*.cu' -o -name '*.cuh' | sort)
mapfile -t shell_files < <(find scripts .ci -type f -exec grep -lE '^#!.*(ba)?sh$' {} + | sort)
sources=("${c_files[@]}" "${cuda_files[@]}")

format=$(command -v clang-format-14 || command -v clang-format || true)
if [ -n "$format" ] && "$format" --version | grep -q 'version 14\.'; then
  while read -r file; do
    finding "$file: run $(basename "$format") -i on it"
  done < <("$format" --dry-run -Werror "${sources[@]}" 2>&1 | sed -n 's/^\([^: ]*\):[0-9]*:[0-9]*: error:.*/\1/p' | sort -u)
else
  echo "skipped: formatting (clang-format 14 is not installed)"
fi

if command -v shellcheck >/dev/null; then
  shellcheck "${shell_files[@]}" || finding "shellcheck: see above"
else
  echo "skipped: shell scripts (shellcheck is not installed)"
fi

while read -r name; do
  finding "not a unique file name: $name"
done < <(printf '%s\n' "${sources[@]##*/}" | sort | uniq -d)

while read -r lines file; do
  [ "$file" = total ] || [ "$lines" -le 800 ] || finding "$file: $lines lines, at most 800"
done < <(wc -l "${sources[@]}")

# A function runs from a line that starts in column 1 and ends in '{' to the next '}' in column 1.
while read -r line; do
  finding "$line"
done < <(awk '
  FNR == 1 { start = 0; body = 0 }
  !body && /^[a-zA-Z_].*\(/ && !/^(typedef|enum|else|case)/ { start = FNR }
  !body && start && /;$/ { start = 0 }
  !body && start && /\) \{$/ { body = 1 }
  /^}/ {
    if (body && FNR - start + 1 > 80) printf "%s:%d: function of %d lines, at most 80\n", FILENAME, start, FNR - start + 1
    start = 0
    body = 0
  }' "${sources[@]}")

# A room includes itself and what it stands on; docs/architecture.md has the order. kernels/ is included as "<op>/<op>.h".
files="base device data" model="base device comm data autograd kernels layers"
declare -A stands_on=(
  [base]="" [config]="base" [record]="base" [device]="base" [comm]="base device" [data]="base device"
  [eval]=$files [draw]=$files [report]=$files
  [autograd]="base device comm" [kernels]="base device comm data autograd" [layers]="base device comm data autograd kernels"
  [cudnn]="base device comm autograd kernels" [cuda]="base device comm data autograd kernels cudnn" [model]=$model [infer]="$model model" [weights]="$model config" [setup]="$model model infer config weights"
  [evaluate]="$model model infer config weights setup record eval draw"
  [train]="$model model infer config weights setup record eval draw report evaluate"
  [bench]="$model model infer config weights setup record eval draw report evaluate train"
  [cli]="$model model infer config weights setup record eval draw report evaluate train bench cudnn")
while IFS=: read -r file included; do
  room=kernels above=kernels
  [[ $file == src/* ]] && room=${file#src/} && room=${room%%/*}
  [[ $included == */* && -d src/${included%%/*} ]] && above=${included%%/*}
  [[ " $room ${stands_on[$room]-} " == *" $above "* ]] || finding "$file: a room above it: $included"
done < <(grep -rhHoE '^#include "[^"]+"' src kernels --include='*.[ch]' | sed -E 's/#include "([^"]+)"/\1/')

# Written so that this file does not find itself.
unfinished='TO''DO|FIX''ME|XX''X|not impl''emented|for n''ow'
while read -r line; do
  finding "unfinished: $line"
done < <(grep -nwIE "$unfinished" "${sources[@]}" "${shell_files[@]}" CMakeLists.txt || true)

exit "$failed"
