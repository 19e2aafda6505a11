#!/usr/bin/env bash
# The paper's Table 4 on the miniature: what PeRPO, its perception reward and drawing are worth, each with three seeds.
# Some three hours on two CPU cores; every stage that is done is skipped on a re-run, one that was interrupted goes on.
#
#   runs/ablations.sh [WORK]     trains under WORK (default out/ablations); MINIATURE=folder of runs/miniature.sh
#                                (default out/miniature), of which `base` and both sorts of traces are needed
#
# Every run begins with the same PeSFT checkpoint, stopped early; "without drawing" with one that was trained as long on
# the same traces without their drawings. The bench's 400 questions are in no training data.
set -euo pipefail
work=${1:-out/ablations}
mini=${MINIATURE:-out/miniature}
seeds=${SEEDS:-0 1 2}
python=${PYTHON:-.venv/bin/python}
omni="$python -m omni_r1.cli"
early="--config configs/pesft/miniature.yaml --max-steps 500"
mkdir -p "$work"

stage() { # NAME COMMAND...: run once, its output beside its work
    [ -e "$work/$1.done" ] && return
    echo "==> $1"
    mkdir -p "$(dirname "$work/$1")"
    "${@:2}" 2>&1 | tee "$work/$1.log"
    touch "$work/$1.done"
}

stage questions $python -m omni_r1.data.miniature.corpus traces "$mini/base" "$work/questions.jsonl" --count 4000 --seed 7
stage early $omni pesft $early --model-path "$mini/base" --train-data "$mini/traces.jsonl" \
    --output-path "$work/early" --resume-from-checkpoint last
stage early-text $omni pesft $early --perception-weight 0 --model-path "$mini/base" \
    --train-data "$mini/first-control.jsonl" --output-path "$work/early-text" --resume-from-checkpoint last

measure() { # NAME MODEL
    stage "$1/bench" $omni bench --model-path "$2" --max-new-tokens 400 --output-dir "$work/$1/bench"
}

train() { # NAME START OPTIONS...
    for seed in $seeds; do
        stage "$1/$seed/train" $omni perpo --config configs/perpo/miniature.yaml --seed "$seed" --model-path "$2" \
            --train-data "$work/questions.jsonl" --output-path "$work/$1/$seed/model" --resume-from-checkpoint last "${@:3}"
        measure "$1/$seed" "$work/$1/$seed/model"
    done
}

measure pesft/0 "$work/early"
measure pesft-text/0 "$work/early-text"
train default "$work/early"
train paper "$work/early" --profile paper
train original "$work/early" --profile original
train without-perception "$work/early" --look none
train without-drawing "$work/early-text" --look none --mode text-only

$python benchmarks/ablations.py "$work" --json-path results/ablations.json --page docs/results.md
