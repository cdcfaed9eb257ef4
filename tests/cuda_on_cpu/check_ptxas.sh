#!/usr/bin/env bash
# check_ptxas.sh LOG...: reads what `ptxas -v` said and prints a line for each kernel: registers, static shared memory, spilled
# bytes. Fails if a kernel spills, if a log does not say all that of each of its kernels, or if no log names one (a file may have
# none: it may stand on another file's). Without logs there is no nvcc: skipped (77).
set -euo pipefail
if [ $# -eq 0 ]; then
  echo "skipped: the CUDA kernels were not compiled (no nvcc)"
  exit 77
fi
awk '
  FNR == 1 { end_of_log(); file = FILENAME; logs++ }
  /ptxas info .*bytes gmem/ { complete = 1 }
  /Compiling entry function/ { kernels++ }
  /Function properties for|Compiling entry function/ {
    kernel = $0
    sub(/^.*Function properties for /, "", kernel)
    sub(/^.*Compiling entry function ./, "", kernel)
    sub(/. for .*$/, "", kernel)
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
    printf "%3d registers, %5d bytes of shared memory, %d spilled: %s\n", registers, shared, spilled, kernel
    if (spilled > 0) bad(kernel " spills registers")
    read++
  }
  function end_of_log() {
    if (logs && !complete) bad(file ": not what ptxas -v says")
    if (kernels != read) bad(file ": " kernels " kernels, " read " understood")
    total += read
    complete = kernels = read = 0
  }
  function bad(message) { print "error: " message; failed = 1 }
  END {
    end_of_log()
    if (logs < ARGC - 1) bad("an empty log")
    if (!total) bad("no kernel in any log")
    exit failed
  }' "$@"
