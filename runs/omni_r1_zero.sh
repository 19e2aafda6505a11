#!/usr/bin/env bash
# Omni-R1-Zero on the miniature: from its base model and chains of thought in text alone, by two rounds of drawing and
# PeSFT and then PeRPO; beside it the same training on gold drawings, on no drawings, and on drawings nobody filtered.
# Every stage that is done is skipped on a re-run, one that was interrupted goes on.
#
#   runs/omni_r1_zero.sh [WORK]   trains under WORK (default out/zero); BASE=folder of the base model (default
#                                 out/miniature/base, which runs/miniature.sh makes)
#
# Zero's path reads the chains alone. Gold drawings are made for the comparison only, in $work/gold.
set -euo pipefail
work=${1:-out/zero}
base=${BASE:-out/miniature/base}
seeds=${SEEDS:-0 1 2}
rows=${ROWS:-8000}       # chains of thought, and gold traces of the same questions
steps=${STEPS:-1000}     # of each PeSFT, 32 rows each
perpo=${PERPO_STEPS:-30} # Zero-M's; T has 10, S has 20
python=${PYTHON:-.venv/bin/python}
omni="$python -m omni_r1.cli"
corpus="$python -m omni_r1.data.miniature.corpus"
mkdir -p "$work"

stage() { # NAME COMMAND...: run once, its output beside its work
    [ -e "$work/$1.done" ] && return
    echo "==> $1"
    mkdir -p "$(dirname "$work/$1")"
    "${@:2}" 2>&1 | tee "$work/$1.log"
    touch "$work/$1.done"
}

measure() { # NAME MODEL
    stage "$1/bench" $omni bench --model-path "$2" --max-new-tokens 400 --output-dir "$work/$1/bench"
}

learn() { # NAME DATA SEED OPTIONS...: PeSFT of the base model, and its bench
    stage "$1/pesft" $omni pesft --config configs/pesft/miniature.yaml --num-train-epochs 100 --max-steps "$steps" \
        --model-path "$base" --train-data "$2" --output-path "$work/$1/model" --seed "$3" \
        --resume-from-checkpoint last "${@:4}"
    measure "$1" "$work/$1/model"
}

drawing() { # NAME RECIPE MODEL SEED OPTIONS...
    stage "$1/bootstrap" $omni bootstrap --config "configs/bootstrap/$2.yaml" --input "$work/chains.jsonl" \
        --model-path "$3" --output-path "$work/$1/drawn" --seed "$4" "${@:5}"
    stage "$1/report" $omni report --run-dir "$work/$1/drawn"
}

stage chains $corpus chains "$work/chains.jsonl" --count "$rows" --seed 2
for seed in $seeds; do
    drawing "zero-1/$seed" miniature "$base" "$seed"
    learn "zero-1/$seed" "$work/zero-1/$seed/drawn" "$seed"
    drawing "zero-2/$seed" miniature-again "$work/zero-1/$seed/model" "$seed"
    learn "zero-2/$seed" "$work/zero-2/$seed/drawn" "$seed"
    stage "zero-perpo/$seed/perpo" $omni perpo --config configs/perpo/miniature.yaml --max-steps "$perpo" --seed "$seed" \
        --model-path "$work/zero-2/$seed/model" --train-data "$work/zero-2/$seed/drawn" \
        --output-path "$work/zero-perpo/$seed/model" --resume-from-checkpoint last
    measure "zero-perpo/$seed" "$work/zero-perpo/$seed/model"
done

# The comparison. `unfiltered` takes every drawing, whatever it is.
stage gold $corpus traces "$base" "$work/gold/traces.jsonl" --count "$rows" --seed 2
stage text $corpus traces "$base" "$work/gold/text.jsonl" --count "$rows" --seed 2 --without-drawings
for seed in $seeds; do
    learn "annotated/$seed" "$work/gold/traces.jsonl" "$seed"
    learn "text/$seed" "$work/gold/text.jsonl" "$seed" --perception-weight 0
    drawing "unfiltered/$seed" miniature "$base" "$seed" --min-confidence=-1000
    learn "unfiltered/$seed" "$work/unfiltered/$seed/drawn" "$seed"
done

$python benchmarks/zero_results.py "$work" --json-path results/zero.json --page docs/results.md
