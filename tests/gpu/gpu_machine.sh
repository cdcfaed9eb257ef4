#!/usr/bin/env bash
# Stands in for the programs that scripts/gpu_check.sh calls on a machine with a GPU, by the name it is called under. It prints what
# they print, so that the script's reading of their logs can be tested where there is no GPU. Three of its runs fail.
set -euo pipefail

train() {
  local word previous='' folder='' batch=0 precision='' line
  local words=("$@")
  for word in "${words[@]}"; do
    case $previous in
      OUTPUT_DIR) folder=$word ;;
      SOLVER.IMS_PER_BATCH) batch=$word ;;
      PRECISION) precision=$word ;;
    esac
    previous=$word
  done
  echo "[11/21 09:20:51 maskrcnn.train]: 1 rank, $batch images per iteration, seed 1"
  if [ "$batch $precision" = '12 tf32' ]; then
    echo 'maskrcnn: error: the loss is "nan" \ not finite' >&2
    exit 79
  fi
  mkdir "$folder"
  if [ "$batch $precision" = '2 tf32' ]; then exit 0; fi
  for line in 9:3.5 19:0.5 29:0.0125 39:0.0100 49:0.0150 59:0.0125; do
    echo "{\"data_time\": 0.001, \"iteration\": ${line%:*}, \"lr\": 1e-05, \"rank_data_time\": 0.5, \"time\": ${line#*:}, \"total_loss\": 2.5}"
  done >"$folder/metrics.json"
  echo '[11/21 09:20:55 maskrcnn.train]: 44453813 parameters, 44125173 trained; largest canvas 800x1344; step memory 1178 MiB'
  echo '[11/21 09:21:30 maskrcnn.events]: throughput over iterations 100-500: 171.250 img/s (171.250 per rank)'
  if [[ " ${words[*]} " != *' --times '* ]]; then return; fi
  cat <<'END'
30 steps
per step                                                   mean ms    std ms   count      %        MB     GFLOP     GB/s   GFLOP/s
backbone.fpn.layer_blocks.0.0 conv2d         backward      2.500     0.010       1  37.74    100.00    10.000    40.00   4000.00
backbone.fpn.layer_blocks.0.0 conv2d         forward       1.250     0.010       1  18.87    100.00    10.000    80.00   8000.00
rpn.head.conv.0.0 conv2d                     forward       1.000     0.010       1  15.09    100.00    10.000   100.00  10000.00
roi_heads.box_roi_pool roi_align_fpn         backward      1.000     0.010       1  15.09    100.00     1.000   100.00   1000.00
roi_heads.box_roi_pool roi_align_fpn         forward       0.500     0.010       1   7.55    100.00     1.000   200.00   2000.00
optimizer sgd_step                           forward       0.250     0.010       1   3.77      0.18     0.300     0.70   1200.00
rpn.head.conv.0.0 conv2d                     backward      0.125     0.010       1   1.89    100.00    10.000   800.00  80000.00
data wait                                                  0.010     0.001       1   0.15
END
}

case ${0##*/} in
  nvidia-smi)
    case ${1-} in
      -L) echo 'GPU 0: NVIDIA H200 (UUID: GPU-0)' ;;
      --query*) echo 'NVIDIA H200, 570.86.15' ;;
    esac
    ;;
  mpirun)
    while [ "${1##*/}" != maskrcnn ]; do shift; done
    exec "$@"
    ;;
  compute-sanitizer)
    if [ "$2" = memcheck ]; then echo '========= ERROR SUMMARY: 0 errors'; else echo '========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)'; fi
    ;;
  test_gpu_ops)
    if [ "${1-}" = --tf32 ]; then
      echo 'skipped: device cuda: no libmaskrcnn_cuda.so'
      exit 77
    fi
    echo 'nms: kernel cuda_bitmask'
    echo 'nms: f32, 9 cases, 0 failures, 0 of the tolerance used'
    echo 'linear: kernel cuda_tiles'
    echo 'linear: f32, 20 cases, 0 failures, 0.25 of the tolerance used'
    echo 'linear: bf16, 20 cases, 0 failures, 0.75 of the tolerance used'
    ;;
  maskrcnn)
    case $1 in
      env)
        printf '%-14s %s\n' maskrcnn 0.1.0 CUDA '13.0, built for sm_90 and newer' 'NVIDIA driver' 'up to CUDA 13.0' \
          'GPU 0' 'NVIDIA H200, 139.8 GiB, compute capability 9.0' cuDNN 9.13.0 NCCL '2.28.3 (built with 2.28.3)'
        echo 'CUDA_VISIBLE_DEVICES (not set)'
        ;;
      synth)
        echo "[11/21 16:15:27 maskrcnn.data]: $5 images in $3/images, their objects in $3/annotations.json"
        ;;
      train) train "$@" ;;
    esac
    ;;
esac
