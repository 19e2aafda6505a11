#!/usr/bin/env bash
# The miniature from nothing, on a CPU or a GPU: VQ, base model that draws, PeSFT on gold traces, and the control that
# is trained on the same traces without their drawings. About an hour and a half on two CPU cores.
#   runs/miniature.sh [WORK]        everything lands under WORK (default out/miniature)
set -euo pipefail
work=${1:-out/miniature}
python=${PYTHON:-.venv/bin/python}
omni="$python -m omni_r1.cli"
mkdir -p "$work"

if [ ! -e "$work/vq.done" ]; then
    $python -m omni_r1.data.miniature.blank "$work/blank"
    $python -m omni_r1.data.miniature.vq "$work/blank" | tee "$work/vq.log"
    touch "$work/vq.done"
fi
[ -e "$work/base.jsonl" ] || {
    $python -m omni_r1.data.miniature.corpus base "$work/blank" "$work/base.jsonl.part" --count 19200 --seed 1
    mv "$work/base.jsonl.part" "$work/base.jsonl"
}
[ -e "$work/traces.jsonl" ] || {
    $python -m omni_r1.data.miniature.corpus traces "$work/blank" "$work/control.jsonl" --count 8000 --seed 2 --without-drawings
    $python -m omni_r1.data.miniature.corpus traces "$work/blank" "$work/traces.jsonl.part" --count 8000 --seed 2
    mv "$work/traces.jsonl.part" "$work/traces.jsonl"
}
[ -e "$work/base/model.safetensors" ] ||
    $omni pesft --config configs/pesft/miniature-base.yaml --model-path "$work/blank" --train-data "$work/base.jsonl" --output-path "$work/base"
[ -e "$work/model/model.safetensors" ] ||
    $omni pesft --config configs/pesft/miniature.yaml --model-path "$work/base" --train-data "$work/traces.jsonl" --output-path "$work/model"
[ -e "$work/control/model.safetensors" ] ||
    $omni pesft --config configs/pesft/miniature.yaml --perception-weight 0 --model-path "$work/base" --train-data "$work/control.jsonl" --output-path "$work/control"
