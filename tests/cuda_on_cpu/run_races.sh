#!/usr/bin/env bash
# Builds the CUDA kernels for the host with ThreadSanitizer, which no other sanitizer goes with, and runs cuda_races_*.
# usage: run_races.sh SOURCE FOLDER [CMAKE_OPTION...]
set -euo pipefail
source=$1
folder=$2
shift 2

cmake -S "$source" -B "$folder" -G Ninja -DENABLE_TESTS=ON -DENABLE_CUDA=OFF "$@"
cmake --build "$folder" --target cuda_races
ctest --test-dir "$folder" --tests-regex '^cuda_races_' --parallel "$(nproc)" --output-on-failure --no-tests=error
