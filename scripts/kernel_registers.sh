#!/usr/bin/env bash
# Registers and static shared memory of every CUDA kernel, as ptxas says them of the GPU that the tests compile for: prints them, or
# with --write records them in docs/kernel_registers.txt, which the test cuda_no_spills compares with.
#
# usage: kernel_registers.sh [--write] [BUILD_DIR]     of a build with -DENABLE_TESTS=ON; default: build
set -euo pipefail
cd "$(dirname "$0")/.."

write=
if [ "${1-}" = --write ]; then
  write=1
  shift
fi
build=${1:-build}

cmake --build "$build" --target cuda_nvcc_check >&2
mapfile -t logs < <(find "$build" -name '*.ptxas' | sort)
list=$(tests/cuda_on_cpu/check_ptxas.sh --list "${logs[@]}")
if [ -n "$write" ]; then
  printf '%s\n' "$list" >docs/kernel_registers.txt
else
  printf '%s\n' "$list"
fi
