#!/usr/bin/env bash
# From a fresh clone to a trained, evaluated and exported network in one command.
#
#   bash scripts/quickstart.sh [directory]   directory of the results; default: runs/quickstart
#
# A second run reuses the environment and resumes where the first one stopped.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

results="${1:-$root/runs/quickstart}"
run="$results/run"
examples=1000  # drawn for training, and a quarter of that for validation
export PYTHONUNBUFFERED=1  # keeps output and progress lines in order

stage() {
  local title="$1" start="$SECONDS"
  shift
  echo
  echo "== $title"
  "$@"
  echo "== $title: $((SECONDS - start)) s"
}

script() {
  local name="$1"
  shift
  "$python" "$root/scripts/$name.py" "$@"
}

stage "environment" prepare_environment
stage "data" script prepare_dataset --dataset=shapes --dataset.num_examples="$examples" \
  --data_dir="$results/data" --samples="$results/samples"
stage "training" script train --recipe=quickstart_shapes --dataset.num_examples="$examples" \
  --data_dir="$results/data" --workdir="$run"
stage "evaluation" script evaluate --workdir="$run" --data_dir="$results/data"
stage "prediction" script predict --workdir="$run" --images="$results/samples" \
  --output="$results/predictions" --overwrite
if [ -e "$results/saved_model" ]; then
  echo
  echo "== export: $results/saved_model exists; remove it to export again"
else
  stage "export" script export --workdir="$run" --format=saved_model \
    --images="$results/samples" --output="$results/saved_model"
fi

cat <<END

Done in $SECONDS s. In $results are
  run/evaluation.html     report: scores with intervals, classes, best and worst images; open it in a browser
  predictions/index.html  predictions of validation images on one page
  run/training_curve.png  loss and mean IoU during training; metrics.csv has the numbers
  run/pictures/           image, label and prediction during training
  saved_model/            the network, for use without this project; model_card.md says how
Next: train on your own photos, see README.md.
END
