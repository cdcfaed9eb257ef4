#!/usr/bin/env bash
# Everything that only a GPU can show, in one call: versions, every op against the CPU, the tests that need a GPU, training in each
# precision with its throughput, time of each op, one and two ranks, torchvision's step on the same card (where torch is installed),
# compute-sanitizer (where installed).
#
# A step that fails or runs past its limit does not stop the others. Each is a line of DIR/gpu_check.jsonl as soon as it has ended;
# DIR/gpu_check.json and the table DIR/gpu_check.md are made anew after each (gpu_check_report.sh), so that a killed run leaves them
# too. DIR/logs/ holds what each step printed.
#
# usage: gpu_check.sh [--out DIR] [--quick] [--bundle DIR]
#   --out DIR      output/gpu_check where not given; replaced if it is there
#   --quick        all of it in less than 10 minutes: fewer iterations, sanitizers on fewer ops
#   --bundle DIR   the program is DIR/bin/maskrcnn; else bin/ beside this script's folder, or build/
#
# exit code: 0, 1 if a step failed, 64 for a wrong command line, 77 if there is no GPU
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)

usage() {
  sed -n '/^# usage/,/^# exit code/s/^# \{0,1\}//p' "$0" >&2
  exit 64
}

out=output/gpu_check quick='' root=${here%/*}
while [ $# -gt 0 ]; do
  case $1 in
    --quick) quick=1 ;;
    --out | --bundle)
      [ $# -gt 1 ] || usage
      if [ "$1" = --out ]; then out=$2; else root=$(cd "$2" && pwd) || exit 64; fi
      shift
      ;;
    *) usage ;;
  esac
  shift
done

if [ -x "$root/bin/maskrcnn" ]; then
  programs=$root/bin tests=$root/bin
else
  programs=$root/build tests=$root/build/tests/gpu
fi
if [ ! -x "$programs/maskrcnn" ]; then
  echo "$programs/maskrcnn is not there: build it (cmake -S . -B build -DENABLE_TESTS=ON; cmake --build build), or give --bundle DIR" >&2
  exit 64
fi
case $out in "$here" | "$root" | / | . | '') usage ;; esac
if [ -e "$out" ] && [ ! -e "$out/gpu_check.jsonl" ]; then
  echo "$out is there, and not a folder of this script" >&2
  exit 64
fi
rm -rf "$out"
mkdir -p "$out/logs" || exit 64
out=$(cd "$out" && pwd)
: >"$out/gpu_check.jsonl"
data=$(mktemp -d) || exit 73
step='' # the process of the step that is going on
trap 'rm -rf "$data"' EXIT
trap '[ -z "$step" ] || kill "$step"; exit 143' TERM INT

# How long all of it may take, in seconds.
total=${quick:+570}
total=${total:-7200}

json_text() {
  local text=${1//\\/\\\\}
  text=${text//\"/\\\"}
  printf '"%s"' "$(tr -d '\000-\037' <<<"$text")"
}

# note_check NAME STATUS SECONDS FIGURES NOTE COMMAND
note_check() {
  printf '{"name": %s, "status": "%s", "seconds": %s, "figures": {%s}, "note": %s, "command": %s}\n' "$(json_text "$1")" "$2" "$3" \
    "$4" "$(json_text "$5")" "$(json_text "$6")" >>"$out/gpu_check.jsonl"
  "$here/gpu_check_report.sh" "$out" >/dev/null || : # a failed check is told at the end
  printf '%-34s %-8s %8s s  %s\n' "$1" "$2" "$3" "${4//\"/}${5:+ $5}"
}

# The line of a log that says most of a failure: the first error, else the last line.
reason_of() {
  local line
  line=$(grep -m 1 -iE 'error:|skipped:' "$1" || tail -n 1 "$1")
  printf '%s' "${line:0:300}"
}

# A command as one would type it, in the program's folder and with DATA for the folder of this run's data.
command_text() {
  local word text=''
  for word in "$@"; do
    word=${word//$data/DATA} word=${word#"$root"/}
    if [[ $word =~ ^[A-Za-z0-9_./:=,+-]+$ ]]; then text+=" $word"; else text+=" '$word'"; fi
  done
  printf '%s' "${text# }"
}

# check NAME SECONDS FIGURES COMMAND...: runs the command for SECONDS at most. FIGURES is a function that prints, of the log, what is
# worth a place in the table: `"name": value` and commas; a step that passed and prints nothing has failed. So has one that was
# skipped by the program (77): there is a GPU.
check() {
  local name=$1 limit=$2 figures_of=$3 log=$out/logs/$1.log left=$((total - SECONDS)) begin code state shown note='' took words
  shift 3
  words=$(command_text "$@")
  if [ "$left" -lt 10 ]; then
    note_check "$name" skipped 0 '' "no time left of $total s" "$words"
    return 1
  fi
  [ "$limit" -lt "$left" ] || limit=$left
  begin=$(date +%s%N)
  timeout -k 10 "$limit" "$@" >"$log" 2>&1 </dev/null &
  step=$!
  wait "$step"
  code=$?
  step=''
  took=$(awk -v ns=$(($(date +%s%N) - begin)) 'BEGIN { printf "%.1f", ns / 1e9 }')
  shown=$("$figures_of" "$log")
  case $code in
    0) state=passed ;;
    124 | 137) state=failed note="stopped after $limit s" ;;
    *) state=failed note="exit code $code: $(reason_of "$log")" ;;
  esac
  if [ $state = passed ] && [ -z "$shown" ]; then state=failed note='the figures expected are not in its log'; fi
  note_check "$name" $state "$took" "$shown" "$note" "$words"
  [ $state = passed ]
}

skip() {
  note_check "$1" skipped 0 '' "$2" ''
}

# --- what the logs hold

line_value() {
  sed -n "s/^$1  *//p" "$2" | head -n 1
}

figures_of_env() {
  local key value row
  for row in 'CUDA' 'NVIDIA driver' 'GPU 0' 'cuDNN' 'cublasLt' 'NCCL'; do
    value=$(line_value "$row" "$1")
    [ -z "$value" ] || printf '"%s": %s, ' "$row" "$(json_text "$value")"
  done
  IFS=, read -r key value < <(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -n 1)
  printf '"card": %s, "driver": %s, "date": "%s"' "$(json_text "${key:-not known}")" "$(json_text "${value# }")" "$(date -u +%FT%TZ)"
}

# Lines of test_gpu_ops: "OP: bf16, N cases, F failures, X of the tolerance used".
figures_of_ops() {
  awk -F '[ ,:]+' '
    / cases, [0-9]+ failures, / {
      ops[$1]; types[$2]
      cases += $3
      failures += $5
      if ($7 + 0 >= most) { most = $7 + 0; where = $1 " " $2 }
    }
    END {
      if (!cases) exit
      for (i in ops) n++
      for (i in types) list = list (list == "" ? "" : " ") i
      printf "\"ops\": %d, \"types\": \"%s\", \"cases\": %d, \"failures\": %d, ", n, list, cases, failures
      printf "\"most_of_tolerance\": %.3g, \"most_of_tolerance_by\": \"%s\"", most, where
    }' "$1"
}

figures_of_ctest() {
  sed -n 's/^.* tests passed, \([0-9]*\) tests failed out of \([0-9]*\)$/"tests": \2, "failures": \1/p' "$1"
}

figures_of_sanitizer() {
  sed -n -e 's/^.*ERROR SUMMARY: \([0-9]*\) error.*$/"errors": \1/p' -e 's/^.*RACECHECK SUMMARY: \([0-9]*\) hazard.*$/"hazards": \1/p' "$1" | head -n 1
}

figures_of_data() {
  sed -n 's/^.* \([0-9]*\) images in .*$/"images": \1/p' "$1"
}

# Of a training's log and its metrics.json: medians over the lines of metrics.json but the first third (start, choice of plans),
# and the line "throughput over iterations 100-500".
figures_of_train() {
  local run=${1##*/} batch
  run=$data/${run%.log}
  batch=$(sed -nE 's/^.* ([0-9]+) images? per iteration.*$/\1/p' "$1" | head -n 1)
  [ -s "$run/metrics.json" ] || return 0
  awk -v batch="${batch:-0}" '
    function number(key, at) {
      at = index($0, "\"" key "\":")
      return at ? substr($0, at + length(key) + 3) + 0 : "none"
    }
    function middle(values, from, to, i, j, t, v, n) {
      for (i = from; i <= to; i++) v[++n] = values[i]
      for (i = 2; i <= n; i++)
        for (j = i; j > 1 && v[j] < v[j - 1]; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
      return v[int((n + 1) / 2)]
    }
    number("time") != "none" {
      time[++n] = number("time")
      data[n] = number("data_time")
      last = number("iteration")
      loss = number("total_loss")
    }
    END {
      if (!n) exit
      step = middle(time, int(n / 3) + 1, n)
      printf "\"img_per_s\": %.2f, \"step_ms\": %.2f, \"data_ms\": %.2f, \"iterations\": %d, \"last_loss\": %.4g", batch / step, 1e3 * step,
        1e3 * middle(data, int(n / 3) + 1, n), last + 1, loss
    }' "$run/metrics.json"
  sed -n 's/^.*throughput over iterations \([0-9]*\)-\([0-9]*\): \([0-9.]*\) img\/s.*$/, "img_per_s_\1_to_\2": \3/p' "$1" | head -n 1 | tr -d '\n'
  sed -n 's/^.* step memory \([0-9]*\) MiB.*$/, "step_MiB": \1/p' "$1" | head -n 1 | tr -d '\n'
}

# The table of `train --times`, "LAYER OP forward|backward MS ...": milliseconds of each op, all its layers together, slowest first.
figures_of_times() {
  figures_of_train "$1"
  awk '
    function note(op, direction, ms) {
      forward[op] += direction == "forward" ? ms : 0
      backward[op] += direction == "backward" ? ms : 0
    }
    NF > 5 { for (i = 3; i < NF; i++) if ($i ~ /^(for|back)ward$/ && $(i + 1) ~ /^[0-9.]+$/) note($2, $i, $(i + 1)) }
    END { for (op in forward) printf "%.3f %s %.3f %.3f\n", forward[op] + backward[op], op, forward[op], backward[op] }' "$1" |
    sort -rn | awk '{ printf ", \"%s forward_ms\": %s, \"%s backward_ms\": %s", $2, $3, $2, $4 }'
}

# One line of JSON, last in the log.
figures_of_torch() {
  sed -n 's/^{\(.*\)}$/\1/p' "$1" | tail -n 1
}

figures_of_any() {
  printf '"lines": %d' "$(wc -l <"$1")"
}

# --- the steps

no_gpu() {
  note_check gpu skipped 0 '' "no GPU: $1" ''
  echo "skipped: no GPU: $1"
  exit 77
}

# An empty CUDA_VISIBLE_DEVICES hides every GPU.
find_gpus() {
  [ -n "${CUDA_VISIBLE_DEVICES-0}" ] || no_gpu 'CUDA_VISIBLE_DEVICES is empty'
  gpus=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU')
  [ "$gpus" -gt 0 ] || no_gpu 'nvidia-smi finds none'
}

check_ops() {
  if [ ! -x "$tests/test_gpu_ops" ]; then
    skip ops "no test_gpu_ops in $tests: build with -DENABLE_TESTS=ON"
    return
  fi
  check ops "$1" figures_of_ops "$tests/test_gpu_ops"
  # TF32 keeps 10 bits of a factor, which is 2^-11 of a product: a hundred times what sums in F32 may differ by.
  check ops_tf32 "$1" figures_of_ops "$tests/test_gpu_ops" --tf32 --slack 100 conv2d conv2d_transpose linear
}

# train NAME SECONDS FIGURES CONFIG DATA BATCH PRECISION ITERATIONS [--times] [KEY VALUE...]: on the GPU, from random weights.
train() {
  local name=$1 limit=$2 figures=$3 config=$4 set=$data/$5 batch=$6 precision=$7 iterations=$8 flags=()
  shift 8
  if [ "${1-}" = --times ]; then flags=(--times) && shift; fi
  check "$name" "$limit" "$figures" ${launch[@]+"${launch[@]}"} "$programs/maskrcnn" train --config "$root/configs/$config.yaml" \
    --weights '' --device cuda ${flags[@]+"${flags[@]}"} DATASETS.TRAIN "$set/annotations.json:$set/images" DATASETS.TEST '()' \
    SOLVER.IMS_PER_BATCH "$batch" PRECISION "$precision" SOLVER.MAX_ITER "$iterations" SOLVER.LOG_PERIOD 10 \
    SOLVER.CHECKPOINT_PERIOD 1000000 DATALOADER.NUM_WORKERS "$workers" SEED 1 OUTPUT_DIR "$data/$name" "$@"
}

# Mask R-CNN R50-FPN at 800x1333. The learning rate is small: weights are random, and norms frozen. So pixels are divided by a large
# number (src/bench/random_model.h says why); torchvision's too.
train_r50() {
  local name=$1 limit=$2 figures=$3
  shift 3
  train "$name" "$limit" "$figures" mask_rcnn_R_50_FPN_noaug_1x large "$@" SOLVER.BASE_LR 1e-5 \
    MODEL.PIXEL_STD '(4096.0, 4096.0, 4096.0)'
}

# Two ranks on a GPU each, or on the one there is.
check_two_ranks() {
  local mpirun=$programs/mpirun
  [ -x "$mpirun" ] || mpirun=$(command -v mpirun)
  if [ -z "$mpirun" ]; then
    skip small_bf16_ranks_2 'mpirun is not installed'
    return
  fi
  launch=("$mpirun" -n 2 --bind-to none --oversubscribe)
  [ "$(id -u)" != 0 ] || launch+=(--allow-run-as-root)
  train small_bf16_ranks_2 "$1" figures_of_train quickstart small 4 bf16 "$2"
  launch=()
}

check_torchvision() {
  local python=${PYTHON:-python3} batch precision
  if ! "$python" -c 'import torch, torchvision' 2>/dev/null; then
    skip torchvision "$python has no torch and torchvision; PYTHON=... names another"
    return
  fi
  for precision in bf16 tf32; do
    for batch in 2 12; do
      check "torchvision_batch_${batch}_$precision" "$1" figures_of_torch "$python" "$here/peers/torchvision_step.py" --batch "$batch" \
        --precision "$precision" --steps "$2"
    done
  done
}

# All tests that need a GPU, but for the ops, which have had their turn.
check_gpu_tests() {
  local program name
  if [ "$tests" = "$programs" ]; then
    for program in "$tests"/test_gpu_*; do
      name=${program##*/}
      [ "$name" = test_gpu_ops ] || [ ! -x "$program" ] || check "$name" "$1" figures_of_any "$program"
    done
  elif ctest --test-dir "$root/build" -N -L '^gpu$' -E '^gpu_ops$' 2>/dev/null | grep -q 'Test *#'; then
    check gpu_tests "$1" figures_of_ctest ctest --test-dir "$root/build" -L '^gpu$' -E '^gpu_ops$' --output-on-failure
  else
    skip gpu_tests 'no test but gpu_ops has the label gpu'
  fi
}

check_sanitizers() {
  local tool sanitizer
  sanitizer=$(command -v compute-sanitizer || compgen -G '/usr/local/cuda*/bin/compute-sanitizer' | head -n 1)
  if [ -z "$sanitizer" ] || [ ! -x "$tests/test_gpu_ops" ]; then
    skip sanitizers "compute-sanitizer or test_gpu_ops is not installed"
    return
  fi
  for tool in memcheck racecheck; do
    check "sanitizer_$tool" "$1" figures_of_sanitizer "$sanitizer" --tool "$tool" --target-processes all --error-exitcode 1 "$tests/test_gpu_ops" "${@:2}"
  done
}

launch=() large_images=96
[ -z "$quick" ] || large_images=24
workers=$(($(nproc) > 3 ? $(nproc) - 2 : 2))
[ "$workers" -le 16 ] || workers=16
find_gpus
nvidia-smi >"$out/logs/nvidia-smi.log" 2>&1
check env 60 figures_of_env "$programs/maskrcnn" env
check data_large 120 figures_of_data "$programs/maskrcnn" synth --out "$data/large" --images "$large_images" --seed 1 \
  --width 1333 --height 800
check data_small 60 figures_of_data "$programs/maskrcnn" synth --out "$data/small" --images 128 --seed 1

if [ -n "$quick" ]; then
  check_ops 200
  for precision in bf16 tf32; do
    train_r50 "r50_batch_2_$precision" 60 figures_of_train 2 "$precision" 150
    train_r50 "r50_batch_12_$precision" 60 figures_of_train 12 "$precision" 60
  done
  train_r50 times_r50_batch_2_bf16 45 figures_of_times 2 bf16 30 --times
  train small_bf16 40 figures_of_train quickstart small 4 bf16 500
  check_two_ranks 40 100
  check_torchvision 40 20
  check_gpu_tests 60
  check_sanitizers 45 add sigmoid nms roi_targets
else
  check_ops 1800
  for precision in bf16 tf32 fp32; do
    train "small_$precision" 300 figures_of_train quickstart small 4 "$precision" 500
    train_r50 "r50_batch_2_$precision" 600 figures_of_train 2 "$precision" 500
    train_r50 "r50_batch_12_$precision" 900 figures_of_train 12 "$precision" 500
  done
  train_r50 r50_batch_2_bf16_no_graph 300 figures_of_train 2 bf16 500 CUDA.GRAPH False
  train_r50 times_r50_batch_2_bf16 300 figures_of_times 2 bf16 50 --times
  train_r50 times_r50_batch_12_bf16 300 figures_of_times 12 bf16 50 --times
  # suppression of C4's 12000 boxes, and an RPN alone
  train times_c4_batch_2_bf16 300 figures_of_times mask_rcnn_R_50_C4_1x large 2 bf16 50 --times SOLVER.BASE_LR 1e-5
  train rpn_c4_batch_2_bf16 300 figures_of_train rpn_R_50_C4_1x large 2 bf16 200 SOLVER.BASE_LR 1e-5
  check_two_ranks 300 500
  check_torchvision 300 50
  check_gpu_tests 1800
  check_sanitizers 1800
fi

echo
cat "$out/gpu_check.md"
echo
"$here/gpu_check_report.sh" "$out" || exit 1
