#!/usr/bin/env bash
# Measures this program on the CPU beside its peers, which take turns with it, and writes what came out into docs/benchmarks.md,
# between its two marks (bench_page.py): training steps, their floor, ops, loader, scoring, prediction, models, ranks.
#
# Each measurement leaves its JSON in FOLDER/results as soon as it has ended, so that --resume goes on where a run was stopped. A peer
# that is not installed is left out, and the page says so. A measurement that fails does not stop the others.
#
# usage: bench_all.sh --annotations FILE --images FOLDER [--python PROGRAM] [--detectron2 FOLDER] [--quick | --check] [--runs N]
#                     [--out FOLDER] [--resume] [--program FILE] [--page FILE]
#   --annotations, --images   a COCO dataset of photographs (80 of them will do)
#   --python PROGRAM     a Python with the peers: torch, torchvision, pycocotools, faster-coco-eval (python3)
#   --detectron2 FOLDER  detectron2's source, built in place for that Python; else it may be installed
#   --quick              the same sizes with fewer iterations, once each
#   --check              smallest sizes, one iteration: whether everything runs, not how fast it is
#   --runs N             how often the peers take turns; the page has medians (3)
#   --out FOLDER         output/bench_all where not given; replaced if it is there
#   --program FILE       bin/maskrcnn beside this script's folder, or build/maskrcnn
#   --page FILE          docs/benchmarks.md; with --quick and --check no page is changed where none is named. FOLDER/benchmarks.md is
#                        what would be put into it
#
# exit code: 0, 1 if a measurement failed, 64 for a wrong command line, 77 if there is no Python
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=${here%/*}
export PYTHONDONTWRITEBYTECODE=1

usage() {
  sed -n '/^# usage/,/^# exit code/s/^# \{0,1\}//p' "$0" >&2
  exit 64
}

refuse() {
  printf 'bench_all.sh: %s\n' "$*" >&2
  exit 64
}

annotations='' images='' python=python3 detectron2='' mode=full runs='' out=output/bench_all resume='' program='' page=''
while [ $# -gt 0 ]; do
  case $1 in
    --quick | --check) mode=${1#--} ;;
    --resume) resume=yes ;;
    --annotations | --images | --python | --detectron2 | --runs | --out | --program | --page)
      [ $# -gt 1 ] || usage
      printf -v "${1#--}" %s "$2"
      shift
      ;;
    *) usage ;;
  esac
  shift
done
if [ -z "$annotations" ] || [ -z "$images" ]; then usage; fi
[ -f "$annotations" ] || refuse "$annotations is not there"
[ -d "$images" ] || refuse "$images is not a folder"
if ! "$python" -c '' 2>/dev/null; then
  echo "skipped: $python is no Python, which writes the page; --python names another"
  exit 77
fi
for program in ${program:+"$program"} "$root/bin/maskrcnn" "$root/build/maskrcnn"; do
  [ ! -x "$program" ] || break
done
[ -x "$program" ] || refuse "$program is not there: build it (cmake -S . -B build; cmake --build build), or give --program FILE"

# --- sizes and iterations of each mode

configs=$root/configs
tiny=()
large=800x1333 small=256x426 predict_sizes=(800x1333 2304x3840)
warmup=1 iters=6 scale_iters=3 profile_iters=2 predict_iters=3 epochs=5 peer_epochs=3 eval_images=5000 most_kib=204800
heads=on_p2 grid=map boxes=boxes
case $mode in
  full) runs=${runs:-3} page=${page:-$root/docs/benchmarks.md} ;;
  quick)
    runs=${runs:-1} warmup=1 iters=2 scale_iters=1 profile_iters=1 predict_iters=1 epochs=1 peer_epochs=1 eval_images=1000
    most_kib=16384 grid=map64
    ;;
  check)
    runs=${runs:-1} warmup=0 iters=1 scale_iters=1 profile_iters=1 predict_iters=1 epochs=1 peer_epochs=1 eval_images=20 most_kib=64
    large=64x96 small=48x80 predict_sizes=(64x96 96x160) grid=map8_batch8_rois10
    heads=map8_batch8_rois100 boxes=boxes_2000
    tiny=(MODEL.RESNETS.STEM_OUT_CHANNELS 8 MODEL.RESNETS.RES2_OUT_CHANNELS 8 MODEL.FPN.OUT_CHANNELS 16
      MODEL.RPN.PRE_NMS_TOPK_TRAIN 60 MODEL.RPN.POST_NMS_TOPK_TRAIN 30 MODEL.RPN.PRE_NMS_TOPK_TEST 60
      MODEL.RPN.POST_NMS_TOPK_TEST 30 MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE 8 MODEL.ROI_BOX_HEAD.FC_DIM 32
      MODEL.ROI_MASK_HEAD.NUM_CONV 1 MODEL.ROI_MASK_HEAD.CONV_DIM 8)
    ;;
esac
[[ $runs =~ ^[1-9][0-9]*$ ]] || refuse "--runs $runs: expected a number from 1 on"
[ -z "$page" ] || [ -f "$page" ] || refuse "$page is not there: --page names a page that has the marks of docs/benchmarks.md"
cores=$(nproc)

# --- the folder

case $out in "$here" | "$root" | / | . | '') usage ;; esac
if [ -e "$out" ] && [ ! -e "$out/settings" ]; then
  refuse "$out is there, and not a folder of this script"
fi
settings=$(printf '%s\n' "mode $mode" "runs $runs" "annotations $(realpath "$annotations")" "images $(realpath "$images")")
if [ -n "$resume" ] && [ -e "$out/settings" ]; then
  [ "$(cat "$out/settings")" = "$settings" ] || refuse "$out was made with other settings: $(tr '\n' ' ' <"$out/settings")"
else
  rm -rf "$out"
  mkdir -p "$out/results" "$out/logs" || exit 73
  printf '%s\n' "$settings" >"$out/settings"
fi
out=$(cd "$out" && pwd)
results=$out/results
: >"$out/skipped"
rm -f "$results"/*.failed
if [ ! -e "$out/about" ]; then
  printf '%s\n' "date $(date -u +%F)" "commit $(git -C "$root" describe --always --dirty 2>/dev/null || echo none)" "large $large" \
    "small $small" "cores $cores" "load $(cut -d ' ' -f 1 /proc/loadavg)" >"$out/about"
fi
step='' # the process of the measurement that is going on
trap '[ -z "$step" ] || kill "$step"; exit 143' TERM INT

# A command as one would type it from the project's folder, with names for what differs from machine to machine.
command_text() {
  local word text='' quote="'"
  for word in "$@"; do
    word=${word//"$out"/OUT} word=${word//"$annotations"/ANNOTATIONS} word=${word//"$images"/IMAGES}
    [ -z "$detectron2" ] || word=${word//"$detectron2"/DETECTRON2}
    [ "$word" != "$python" ] || word=PYTHON
    [ "$word" != "$program" ] || word=build/maskrcnn
    word=${word#"$root"/}
    if [[ $word =~ ^[][A-Za-z0-9_./:=,+-]+$ ]]; then text+=" $word"; else text+=" $quote$word$quote"; fi
  done
  printf '%s' "${text# }"
}

# The line of a log that says most of a failure: the first error, else the last line.
reason_of() {
  local line
  line=$(grep -m 1 -iE 'error' "$1" || tail -n 1 "$1")
  printf '%s' "${line:0:300}"
}

# measure NAME COMMAND...: NAME is WHAT.WHO.RUN; unless it is there from before, NAME.json of what the command writes to --json (this
# program) or as its last line (a peer). NAME.command is what to type.
measure() {
  local name=$1 file=$results/$1.json log=$out/logs/$1.log begin=$SECONDS code told=()
  shift
  [ ! -s "$file" ] || return 0
  command_text "$@" >"$results/$name.command"
  [[ $name == *.peer_* ]] || told=(--json "$file.part")
  printf '%-40s' "$name"
  timeout -k 10 900 "$@" ${told[@]+"${told[@]}"} >"$log" 2>"$log.err" </dev/null &
  step=$!
  wait "$step"
  code=$?
  step=''
  [[ $name != *.peer_* ]] || grep '^{.*}$' "$log" | tail -n 1 >"$file.part"
  cat "$log.err" >>"$log"
  rm -f "$log.err"
  if [ $code -eq 0 ] && [ -s "$file.part" ]; then
    mv "$file.part" "$file"
    printf '%5d s\n' $((SECONDS - begin))
  else
    rm -f "$file.part"
    printf '%s' "exit code $code: $(reason_of "$log")" >"$results/$name.failed"
    printf '%5d s  failed: %s\n' $((SECONDS - begin)) "$(cat "$results/$name.failed")"
  fi
}

# --- peers

peers=' '
look_for() {
  local name=$1 said
  shift
  if said=$("$@" 2>&1); then
    peers+="$name "
  else
    printf '%s\t%s\n' "$name" "$(tail -n 1 <<<"$said")" >>"$out/skipped"
    echo "left out: $name: $(tail -n 1 <<<"$said")"
  fi
}

has() {
  [[ $peers == *" $1 "* ]]
}

find_peers() {
  look_for torchvision "$python" -c 'import torch, torchvision, numpy, PIL, pycocotools'
  look_for detectron2 "$python" -c 'import sys; sys.path[:0] = sys.argv[1:]; import pycocotools, detectron2._C' \
    ${detectron2:+"$detectron2"}
  look_for pycocotools "$python" -c 'import pycocotools.cocoeval, torch, numpy, PIL'
  look_for faster_coco_eval "$python" -c 'import faster_coco_eval, torch, numpy, PIL'
}

peer() {
  measure "$1.peer_$2" "$python" "$here/peers/$3" "${@:4}"
}

# --- what is measured

# Of a step at SHORTxLONG with N images, as arguments of `bench train` and `profile`, for a configuration.
step_arguments() {
  local config=$1 size=$2 batch=$3 threads=$4
  arguments=(--config "$configs/$config.yaml" --weights '' --device cpu DATASETS.TRAIN "$out/images.json:$images" DATASETS.TEST '()'
    INPUT.MIN_SIZE_TRAIN "(${size%x*},)" INPUT.MAX_SIZE_TRAIN "${size#*x}" SOLVER.IMS_PER_BATCH "$batch" SOLVER.BASE_LR 1e-5
    DATALOADER.NUM_WORKERS 0 CPU.THREADS "$threads" SEED 1 ${tiny[@]+"${tiny[@]}"})
}

train() {
  local what=$1 size=$2 batch=$3 run=$4 same arguments
  step_arguments mask_rcnn_R_50_FPN_noaug_1x "$size" "$batch" "$cores"
  measure "$what.ours.$run" "$program" bench train --warmup "$warmup" --iters "$iters" "${arguments[@]}"
  same=(--annotations "$out/images.json" --images "$images" --batch "$batch" --warmup "$warmup" --steps "$iters" --threads "$cores")
  ! has torchvision || peer "$what" "torchvision.$run" torchvision_step.py "${same[@]}" --height "${size%x*}" --width "${size#*x}" \
    --device cpu --precision fp32
  ! has detectron2 || peer "$what" "detectron2.$run" detectron2_step.py "${same[@]}" --short "${size%x*}" --long "${size#*x}" \
    ${detectron2:+--detectron2 "$detectron2"}
}

ops() {
  local what=$1 op=$2 text=$3 run=$4
  measure "$what.ours.$run" "$program" bench op "$op" --case "$text" --threads "$cores"
  ! has torchvision || peer "$what" "torchvision.$run" torchvision_ops.py "$op" --case "$text" --threads "$cores"
}

loader() {
  measure "loader.ours.$1" "$program" bench loader --annotations "$annotations" --images "$images" --workers 2 --epochs "$epochs" \
    --config "$configs/mask_rcnn_R_50_FPN_noaug_1x.yaml" --device cpu SOLVER.IMS_PER_BATCH 2 INPUT.MIN_SIZE_TRAIN "(${large%x*},)" \
    INPUT.MAX_SIZE_TRAIN "${large#*x}" CPU.THREADS "$cores"
  ! has torchvision || peer loader "pytorch.$1" pytorch_loader.py --annotations "$annotations" --images "$images" --workers 2 \
    --batch 2 --epochs "$peer_epochs" --short "${large%x*}" --long "${large#*x}" --threads "$cores"
}

scoring() {
  local type=$1 run=$2 library files=(--annotations "$out/scored/annotations.json" --results "$out/scored/results.json" --iou-type "$1")
  measure "eval_$type.ours.$run" "$program" bench eval "${files[@]}" --iters 1
  for library in pycocotools faster_coco_eval; do
    ! has $library || peer "eval_$type" "$library.$run" pycocotools_eval.py "${files[@]}" --package $library
  done
}

predict() {
  local size sizes=()
  for size in "${predict_sizes[@]}"; do sizes+=(--size "$size"); done
  measure "$1.ours.1" "$program" bench predict --config "$configs/mask_rcnn_R_50_FPN_1x.yaml" --weights '' --device cpu --synthetic \
    "${sizes[@]}" --warmup 1 --iters "$predict_iters" "${@:2}" CPU.THREADS "$cores" ${tiny[@]+"${tiny[@]}"}
}

profile() {
  local arguments
  step_arguments "$2" "$large" 1 "$cores"
  measure "$1.ours.1" "$program" profile --warmup 1 --iters "$profile_iters" "${@:3}" "${arguments[@]}"
}

profile_inference() {
  local arguments
  step_arguments "$1" "$large" 1 "$cores"
  measure "inference_$1.ours.1" "$program" profile --inference --warmup 1 --iters "$profile_iters" "${arguments[@]}" DATASETS.TEST \
    "$out/images.json:$images" INPUT.MIN_SIZE_TEST "${large%x*}" INPUT.MAX_SIZE_TEST "${large#*x}"
}

find_mpirun() {
  local mpirun
  mpirun=$(dirname "$program")/mpirun
  [ -x "$mpirun" ] || mpirun=mpirun
  if ! command -v "$mpirun" >/dev/null; then
    printf 'mpirun\tis not installed\n' >>"$out/skipped"
    return 1
  fi
  launch=("$mpirun" --bind-to none --oversubscribe)
  [ "$(id -u)" != 0 ] || launch+=(--allow-run-as-root)
}

ranks() {
  local n=$1 threads=$((cores / $1)) arguments
  [ "$threads" -gt 0 ] || threads=1
  step_arguments mask_rcnn_R_50_FPN_noaug_1x "$large" "$n" "$threads"
  measure "ranks_$n.ours.$2" "${launch[@]}" -n "$n" "$program" bench train --warmup 1 --iters "$scale_iters" "${arguments[@]}"
}

begin=$SECONDS
find_peers
"$python" "$here/bench_subset.py" "$annotations" "$out/images.json" || exit 1
[ -s "$results/scored.ours.1.json" ] || rm -rf "$out/scored"
measure scored.ours.1 "$program" bench eval --synthetic "$eval_images" --keep "$out/scored" --iters 1

for ((run = 1; run <= runs; run++)); do
  train train_large "$large" 1 "$run"
  train train_small "$small" 2 "$run"
  ops roi_align roi_align "$heads" "$run"
  ops nms nms "$boxes" "$run"
  loader "$run"
  scoring bbox "$run"
  scoring segm "$run"
done
ops roi_grid roi_align "$grid" 1
predict predict_full
predict predict_raw --raw-masks
profile layers mask_rcnn_R_50_FPN_noaug_1x --by layer
for model in mask_rcnn_R_50_FPN_1x mask_rcnn_R_50_C4_1x rpn_R_50_FPN_1x rpn_R_50_C4_1x; do
  profile "profile_$model" $model
done
for model in rpn_R_50_FPN_1x rpn_R_50_C4_1x; do
  profile_inference $model
done
if find_mpirun; then
  for n in 2 4; do
    measure "allreduce_$n.ours.1" "${launch[@]}" -n $n "$program" bench allreduce --max-kib "$most_kib"
  done
  for ((run = 1; run <= runs; run++)); do
    for n in 1 2 4; do ranks $n "$run"; done
  done
fi

"$python" "$here/bench_page.py" "$out" ${page:+--page "$page"} || exit 1
failed=$(find "$results" -name '*.failed' | wc -l)
echo "$(find "$results" -name '*.json' | wc -l) measurements in $((SECONDS - begin)) s, $failed failed; $out/benchmarks.md${page:+, $page}"
[ "$failed" -eq 0 ]
