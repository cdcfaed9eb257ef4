#!/usr/bin/env bash
# Makes a folder that runs on another machine, without root and without installing anything: program, CUDA plug-in, Open MPI
# and every shared library they need, configurations and scripts. Left out is what belongs to the machine: the C library
# family, the NVIDIA driver, and cuDNN, cuBLAS and NCCL, which the plug-in looks for at run time (LD_LIBRARY_PATH).
# The other machine needs a C library at least as new as this one's.
#
# usage: bundle.sh [--build FOLDER] [--out FOLDER] [--tests "NAME..."] [--native] [--limit MIB]
#   --build   where the program was built (build)
#   --out     the folder to make (bundle); one that is there must be an older bundle, and is replaced
#   --tests   test programs of that build to take along
#   --native  take a program that uses every instruction of this machine's CPU (ENABLE_NATIVE): only for machines alike
#   --limit   the most MiB the folder may have (60); each further one of CUDA_ARCHITECTURES costs about 2
set -euo pipefail
source_folder=$(cd "$(dirname "$0")/.." && pwd)
build=$source_folder/build out=bundle tests='' native='' limit=60

fail() {
  printf 'bundle.sh: %s\n' "$*" >&2
  exit 1
}

while [ $# -gt 0 ]; do
  case $1 in
    --build | --out | --tests | --limit)
      [ $# -ge 2 ] || fail "$1 needs a value"
      printf -v "${1#--}" %s "$2"
      shift
      ;;
    --native) native=yes ;;
    *) fail "unknown argument $1; see the head of the script" ;;
  esac
  shift
done

[ -x "$build/maskrcnn" ] || fail "no program in $build: build it, or name the folder with --build"
if grep -q '^ENABLE_NATIVE:BOOL=ON' "$build/CMakeCache.txt" && [ -z "$native" ]; then
  fail "$build is for this machine's CPU only: configure with -DENABLE_NATIVE=OFF, or say --native"
fi
if [ -e "$out" ]; then
  [ -f "$out/bundle.txt" ] || fail "$out is there and is no bundle"
  rm -rf "$out"
fi
mkdir -p "$out"/{bin,lib,libexec,mca,pmix,share}
out=$(cd "$out" && pwd)

# ---- programs, plug-in, components of Open MPI --------------------------------------------------------------

cp "$build/maskrcnn" "$out/libexec/"
if [ -f "$build/libmaskrcnn_cuda.so" ]; then
  cp "$build/libmaskrcnn_cuda.so" "$out/lib/"
fi
for test in $tests; do
  path=$(find "$build/tests" -type f -name "$test" -perm -u+x | head -n 1)
  [ -n "$path" ] || fail "no test program $test in $build/tests"
  cp "$path" "$out/libexec/"
done

# Networks other than TCP and shared memory, file access and profiling are left to an MPI built for the machine.
unused='_(ucx|ofi|openib|psm2?|monitoring|cm|flux|jsm|gridengine|simulator)\.so$|/mca_(io|fs|fbtl|fcoll|sharedfp|memheap|spml|scoll|atomic|sshmem)_'
components=$(ompi_info --path pkglibdir --parsable 2>/dev/null | sed 's/^path:pkglibdir://')
[ -d "$components" ] || fail "Open MPI's components were not found (ompi_info --path pkglibdir)"
while read -r component; do
  cp "$component" "$out/mca/"
done < <(find "$components" -name 'mca_*.so' | grep -vE "$unused")
cp -L "$(command -v orterun)" "$(command -v orted)" "$out/libexec/"
cp -r "$(ompi_info --path pkgdatadir --parsable | sed 's/^path:pkgdatadir://')" "$out/share/openmpi"

# ---- shared libraries ---------------------------------------------------------------------------------------

left_out='^(linux-vdso|ld-linux[^.]*|lib(c|m|dl|rt|pthread|resolv|util|gcc_s|stdc\+\+)|lib(cuda|cudart|cudnn|cublas|nccl|nvrtc|nvJitLink|nvidia)[^.]*)\.so'

# "name path" of what each file needs.
needed() {
  ldd "$@" 2>/dev/null | awk '$2 == "=>" && $3 ~ /^\// { print $1, $3 } $3 == "not" { print $1, "missing" }' | sort -u
}

take_libraries() {
  local name path
  while read -r name path; do
    if [[ $name =~ $left_out ]] || [ -e "$out/lib/$name" ]; then continue; fi
    [ "$path" != missing ] || fail "$name, which the program needs, is not installed here"
    cp -L "$path" "$out/lib/$name"
    chmod u+w "$out/lib/$name"
  done < <(needed "$@")
}
take_libraries "$out"/libexec/* "$out"/mca/*.so
[ ! -f "$out/lib/libmaskrcnn_cuda.so" ] || take_libraries "$out/lib/libmaskrcnn_cuda.so"

# PMIx, which starts the ranks, has components of its own.
if [ -f "$out/lib/libpmix.so.2" ]; then
  pmix=$(dirname "$(readlink -f "$(needed "$out"/mca/*.so | awk '$1 == "libpmix.so.2" { print $2 }')")")
  while read -r component; do
    cp "$component" "$out/pmix/"
  done < <(find "$pmix" -path '*pmix*' -name 'mca_*.so')
  take_libraries "$out"/pmix/*.so
fi

# ---- wrappers -----------------------------------------------------------------------------------------------

write_wrapper() {
  cat >"$out/bin/$1" <<'WRAPPER'
#!/bin/sh
here=$(readlink -f "$0")
root=${here%/bin/*}
export LD_LIBRARY_PATH="$root/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export OPAL_PREFIX="$root" PMIX_INSTALL_PREFIX="$root"
export PMIX_MCA_pcompress_base_silence_warning=1
export OMPI_MCA_mca_base_component_path="$root/mca" PMIX_MCA_mca_base_component_path="$root/pmix"
# Open MPI wants a way to other machines even where it needs none.
command -v ssh >/dev/null || command -v rsh >/dev/null || export OMPI_MCA_plm=isolated
WRAPPER
  echo "exec \"\$root/libexec/$2\" \"\$@\"" >>"$out/bin/$1"
  chmod +x "$out/bin/$1"
}
write_wrapper mpirun orterun
for program in "$out"/libexec/*; do
  name=$(basename "$program")
  write_wrapper "$name" "$name"
done
cp -r "$source_folder/configs" "$out/configs"
mkdir -p "$out/scripts/peers"
cp "$source_folder"/scripts/*.sh "$source_folder"/scripts/bench_*.py "$out/scripts/"
cp "$source_folder"/scripts/peers/*.py "$out/scripts/peers/"
cp "$source_folder/LICENSE" "$out/"

{
  "$build/maskrcnn" --version 2>/dev/null || true
  printf 'C library: %s\n' "$(getconf GNU_LIBC_VERSION)"
  printf 'machine: %s\n' "$(uname -m)"
} >"$out/bundle.txt"

# ---- does it run? -------------------------------------------------------------------------------------------

check=$(mktemp -d)
trap 'rm -rf "$check"' EXIT
cd "$check"
unset LD_LIBRARY_PATH OPAL_PREFIX
run() {
  "$@" >"$check/said" 2>&1 || { cat "$check/said" >&2 && fail "the bundle does not work: $*"; }
}
run "$out/bin/maskrcnn" env
run "$out/bin/maskrcnn" synth --out train --images 2 --seed 1
launch=("$out/bin/mpirun" -n 2 --bind-to none --oversubscribe)
[ "$(id -u)" != 0 ] || launch+=(--allow-run-as-root)
run "${launch[@]}" "$out/bin/maskrcnn" train --config "$out/configs/quickstart.yaml" OUTPUT_DIR run SOLVER.MAX_ITER 2 \
  SOLVER.IMS_PER_BATCH 2 DATASETS.TRAIN train/annotations.json:train/images DATASETS.TEST '()'
grep -q 'iter: 1 ' run/log.txt || fail "the bundle's training did not reach its second iteration"

# Libraries found outside the bundle are those left out on purpose.
while read -r name path; do
  if [[ $path != "$out"/* ]] && [[ ! $name =~ $left_out ]]; then fail "$name comes from $path, not from the bundle"; fi
done < <(export LD_LIBRARY_PATH=$out/lib && needed "$out"/libexec/* "$out"/lib/*.so* "$out"/mca/*.so "$out"/pmix/*.so)

kib=$(du -sk --apparent-size "$out" | cut -f1)
[ "$kib" -le $((limit * 1024)) ] ||
  fail "$out has $((kib / 1024)) MiB, more than $limit: build for fewer GPUs (CUDA_ARCHITECTURES), without cairo, or say --limit"
printf '%s: %d.%d MiB, runs\n' "$out" $((kib / 1024)) $((kib % 1024 * 10 / 1024))
