#!/usr/bin/env bash
# The miniature from nothing: VQ, base model that draws, two rounds of PeSFT, and the control, trained on the same
# traces without their drawings. About two hours on two CPU cores; every stage that is done is skipped on a re-run.
#
#   runs/miniature.sh [WORK]     trains under WORK (default out/miniature)
#   runs/miniature.sh WORK ship  and stores model, control and bench where the package looks for them
set -euo pipefail
work=${1:-out/miniature}
python=${PYTHON:-.venv/bin/python}
pesft="$python -m omni_r1.cli pesft --resume-from-checkpoint last" # a stage that was interrupted goes on
corpus="$python -m omni_r1.data.miniature.corpus"
more="--tasks chart chart scene chart board chart diagram scene" # the second round: its mix of tasks,
again="--max-steps 750 --seed 1"                                 # and how it is trained
mkdir -p "$work"

stage() { # NAME COMMAND...: run once, its output beside its work
    [ -e "$work/$1.done" ] && return
    echo "==> $1"
    "${@:2}" 2>&1 | tee "$work/$1.log"
    touch "$work/$1.done"
}

stage blank $python -m omni_r1.data.miniature.blank "$work/blank"
stage vq $python -m omni_r1.data.miniature.vq "$work/blank"
stage base-corpus $corpus base "$work/blank" "$work/base.jsonl" --count 20800 --seed 1
stage base $pesft --config configs/pesft/miniature-base.yaml \
    --model-path "$work/blank" --train-data "$work/base.jsonl" --output-path "$work/base"
stage traces $corpus traces "$work/blank" "$work/traces.jsonl" --count 8000 --seed 2
stage first $pesft --config configs/pesft/miniature.yaml \
    --model-path "$work/base" --train-data "$work/traces.jsonl" --output-path "$work/first"
stage more-traces $corpus traces "$work/blank" "$work/more.jsonl" --count 8000 --seed 4 $more --readings
stage model $pesft --config configs/pesft/miniature.yaml $again \
    --model-path "$work/first" --train-data "$work/more.jsonl" --output-path "$work/model"

# The control: the same two rounds on the same traces, without their drawings (of a reading nothing would be left).
stage first-control-traces $corpus traces "$work/blank" "$work/first-control.jsonl" \
    --count 8000 --seed 2 --without-drawings
stage first-control $pesft --config configs/pesft/miniature.yaml --perception-weight 0 \
    --model-path "$work/base" --train-data "$work/first-control.jsonl" --output-path "$work/first-control"
stage control-traces $corpus traces "$work/blank" "$work/control.jsonl" --count 8000 --seed 4 $more --without-drawings
stage control $pesft --config configs/pesft/miniature.yaml $again --perception-weight 0 \
    --model-path "$work/first-control" --train-data "$work/control.jsonl" --output-path "$work/control"

if [ "${2:-}" = ship ]; then
    $python -m omni_r1.data.miniature.ship "$work" --count 400 --seed 3
fi
