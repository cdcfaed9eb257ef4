#!/usr/bin/env bash
# From a clean machine to a trained model in one command: installs what is missing, builds, makes a data set of shapes, trains
# a small Mask R-CNN on it for 500 iterations with two ranks, evaluates it on images it has not seen, draws what it finds
# there, and says where everything is. Under a minute on two cores once the packages are there.
#
# usage: quickstart.sh [KEY VALUE...]      e.g. quickstart.sh SOLVER.MAX_ITER 100
set -euo pipefail
cd "$(dirname "$0")/.."

ranks=2
train_images=128
validation_images=24
out=output/quickstart

scripts/install_deps.sh
cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release
cmake --build build

rm -rf "$out"
mkdir -p "$out"
build/maskrcnn synth --out "$out/train" --images "$train_images" --seed 1
build/maskrcnn synth --out "$out/validation" --images "$validation_images" --seed 2

launch=(mpirun -n "$ranks" --bind-to none)
[ "$(id -u)" != 0 ] || launch+=(--allow-run-as-root)
[ "$(nproc)" -ge "$ranks" ] || launch+=(--oversubscribe)

# On a terminal: a bar that each log line moves on, and other lines above it. Elsewhere: the lines as they are.
show() {
  if [ ! -t 1 ]; then
    cat
    return
  fi
  local width=40 line number total=0 filled bar
  while IFS= read -r line; do
    if [[ $line =~ iter:\ ([0-9]+)\ .*total_loss:\ ([0-9.a-z]+) ]]; then
      number=$((BASH_REMATCH[1] + 1))
      [ "$total" -gt 0 ] || total=$(max_iter "$@")
      filled=$((width * number / total))
      [ "$filled" -le "$width" ] || filled=$width
      bar=$(printf '%*s' "$filled" '' | tr ' ' '#')
      printf '\r[%-*s] %d/%d  loss %s ' "$width" "$bar" "$number" "$total" "${BASH_REMATCH[2]}"
    else
      printf '\r\033[K%s\n' "$line"
    fi
  done
  echo
}

# SOLVER.MAX_ITER as the run resolves it.
max_iter() {
  build/maskrcnn config --config configs/quickstart.yaml "$@" | sed -n 's/^SOLVER.MAX_ITER: \([0-9]*\).*/\1/p'
}

"${launch[@]}" build/maskrcnn train --config configs/quickstart.yaml DATASETS.TEST synth_validation "$@" | show "$@"

summary() {
  grep -o "$1" "$out/run/log.txt" | tail -n 1 || true
}
echo
summary 'throughput over iterations.*'
summary 'box AP: .*'
summary 'mask AP: .*'
cat <<END
The report, with curves and pictures: $out/run/report.html
Ground truth beside what the model finds: $out/run/pictures/
Results of the validation images: $out/run/coco_instances_results.json (annotations: $out/validation/annotations.json)
The trained model: $out/run/model_final.safetensors; its log: $out/run/log.txt
END
