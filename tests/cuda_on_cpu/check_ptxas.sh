#!/usr/bin/env bash
# check_ptxas.sh [--list] LOG...: reads what `ptxas -v` said of the CUDA kernels and fails if one spills, or if a log does not say
# all that of each of its kernels, or if no log names one (a file may have none: it may stand on another file's). Without logs
# there is no nvcc: skipped (77).
#
# It then compares registers and static shared memory with docs/kernel_registers.txt: no kernel may need more than recorded
# there, be absent from it, or stand there alone. Numbers of another nvcc, or of another GPU, are not compared.
#
# --list prints the lines of that file instead; scripts/kernel_registers.sh --write makes it.
set -euo pipefail
record=$(dirname "$0")/../../docs/kernel_registers.txt
list=
if [ "${1-}" = --list ]; then
  list=1
  shift
fi
if [ $# -eq 0 ]; then
  echo "skipped: the CUDA kernels were not compiled (no nvcc)"
  exit 77
fi

# Lines of: GPU, file, registers, shared memory, spilled bytes, mangled name of the kernel.
read_logs() {
  awk '
  FNR == 1 { end_of_log(); file = FILENAME; logs++; name = file; sub(/^.*\//, "", name); sub(/\.ptxas$/, "", name) }
  /ptxas info .*bytes gmem/ { complete = 1 }
  /Compiling entry function/ {
    kernels++
    kernel = gpu = $0
    sub(/^.*Compiling entry function ./, "", kernel)
    sub(/. for .*$/, "", kernel)
    sub(/^.* for ./, "", gpu)
    sub(/[^a-z0-9_]*$/, "", gpu)
  }
  /bytes spill stores/ {
    spill = $0
    sub(/^.*bytes stack frame, /, "", spill)
    split(spill, word, " ")
    spilled = word[1]
    sub(/^.*spill stores, /, "", spill)
    split(spill, word, " ")
    spilled += word[1]
  }
  /Used [0-9]+ registers/ {
    registers = shared = $0
    sub(/^.*Used /, "", registers)
    sub(/ registers.*$/, "", registers)
    if (!sub(/ bytes smem.*$/, "", shared)) shared = 0
    sub(/^.* /, "", shared)
    print gpu, name, registers, shared, spilled, kernel
    read++
  }
  function end_of_log() {
    if (logs && !complete) bad(file ": not what ptxas -v says")
    if (kernels != read) bad(file ": " kernels " kernels, " read " understood")
    total += read
    complete = kernels = read = 0
  }
  function bad(message) { print "error: " message >"/dev/stderr"; failed = 1 }
  END {
    end_of_log()
    if (logs < ARGC - 1) bad("an empty log")
    if (!total) bad("no kernel in any log")
    exit failed
  }' "$@"
}

# Names as in the source: without result, parameters, and the anonymous namespace, whose name changes with the folder. Kernels that
# differ in parameters alone become one, with the most that any of them needs. Lines of: registers, shared memory, spilled bytes,
# GPU, file, kernel.
shorten() {
  c++filt | sed -E '
    s/\(anonymous namespace\)::|__nv_//g
    s/ void / /
    s/\((int|bool|unsigned int|[a-z_]+_kind)\)//g
    s/(>|^([^ ]+ ){5}[^ (<]+)\(.*$/\1/
    s/unsigned char/uint8/g
    s/unsigned short/uint16/g' | awk '
    function larger(a, b) { return a + 0 > b + 0 ? a + 0 : b + 0 }
    {
      key = $1 " " $2 " "
      for (i = 6; i <= NF; i++) key = key $i
      registers[key] = larger(registers[key], $3)
      shared[key] = larger(shared[key], $4)
      spilled[key] = larger(spilled[key], $5)
    }
    END { for (key in registers) print registers[key], shared[key], spilled[key], key }' | LC_ALL=C sort -k4
}

failed=0
kernels=$(read_logs "$@" | shorten) || failed=1
version=$("${NVCC:-nvcc}" --version 2>/dev/null | sed -n 's/^.* V\([0-9.]*\)$/\1/p') || true
this="nvcc ${version:-not found}"

if [ -n "$list" ]; then
  echo "# $this: registers of a thread, bytes of static shared memory of a block, GPU, file, kernel"
  awk '{ printf "%3d %5d %s %s %s\n", $1, $2, $4, $5, $6 }' <<<"$kernels"
  exit "$failed"
fi

awk '{
  printf "%3d registers, %5d bytes of shared memory, %d spilled: %s %s %s\n", $1, $2, $3, $4, $5, $6
  if ($3 > 0) problems = problems "error: " $4 " " $5 " " $6 ": spills registers\n"
}
END {
  printf "%s", problems
  exit problems != ""
}' <<<"$kernels" || failed=1

recorded=$(sed -n '1s/^# \(nvcc [^:]*\):.*$/\1/p' "$record")
if [ "$recorded" != "$this" ]; then
  echo "numbers not compared: docs/kernel_registers.txt is of $recorded, this is $this"
  exit "$failed"
fi
awk '
  function bad(message) { print "error: " message; failed = 1 }
  FILENAME == ARGV[1] {
    if (/^#/) next
    gpus[$3] = 1
    registers[$3 " " $4 " " $5] = $1
    shared[$3 " " $4 " " $5] = $2
    next
  }
  !($4 in gpus) { next }
  {
    compared++
    key = $4 " " $5 " " $6
    if (!(key in registers)) bad(key ": not in docs/kernel_registers.txt")
    else if ($1 > registers[key]) bad(key ": " $1 " registers, " registers[key] " recorded")
    else if ($2 > shared[key]) bad(key ": " $2 " bytes of shared memory, " shared[key] " recorded")
    delete registers[key]
  }
  END {
    if (!compared) {
      print "numbers not compared: docs/kernel_registers.txt is of another GPU"
      exit 0
    }
    for (key in registers) bad(key ": in docs/kernel_registers.txt, but in no log")
    if (failed) print "scripts/kernel_registers.sh --write records what there is now"
    exit failed
  }' "$record" - <<<"$kernels" || failed=1
exit "$failed"
