#!/usr/bin/env bash
# Omni-R1-Zero on the miniature: from its base model and chains of thought in text alone, by two rounds of drawing and
# PeSFT and then PeRPO; beside it the same training on gold drawings, on no drawings, and on drawings nobody filtered.
# Some eight hours on two CPU cores; every stage that is done is skipped on a re-run, one that was interrupted goes on.
#
#   runs/omni_r1_zero.sh [WORK]   trains under WORK (default out/zero); BASE=folder of the base model (default
#                                 out/miniature/base, which runs/miniature.sh makes)
#   SEEDS="0 1" runs/omni_r1_zero.sh WORK zero annotated   these seeds and settings alone, then the table of all there are
#
# Other sizes (ROWS, STEPS, PERPO_STEPS, LIMIT) or another base want another WORK.
# The tables of the repository: python benchmarks/zero_results.py WORK --json-path results/zero.json --page docs/results.md
# Zero's path reads the chains alone. Gold drawings are made for the comparison only, in $work/gold.
set -euo pipefail
work=${1:-out/zero}
base=${BASE:-out/miniature/base}
seeds=${SEEDS:-0 1 2}
settings=${*:2}
settings=${settings:-base zero annotated text unfiltered}
rows=${ROWS:-2000}       # chains of thought, and gold traces of the same questions
steps=${STEPS:-800}      # of each PeSFT, 16 rows each
perpo=${PERPO_STEPS:-30} # Zero-M's; T has 10, S has 20
limit=${LIMIT:-}         # questions of the bench; none is all 400
device=${DEVICE:-cpu}    # that draws and answers; training takes a GPU where there is one
python=${PYTHON:-.venv/bin/python}
omni="$python -m omni_r1.cli"
corpus="$python -m omni_r1.data.miniature.corpus"
for setting in $settings; do
    case $setting in
    base | zero | annotated | text | unfiltered) ;;
    *) echo "no setting $setting" >&2 && exit 2 ;;
    esac
done
[ -d "$base" ] || { echo "no base model in $base: runs/miniature.sh makes it" >&2 && exit 2; }
mkdir -p "$work"
sizes="base $base, $rows rows, $steps steps, $perpo of PeRPO, ${limit:-all} questions"
[ -e "$work/sizes" ] || [ -e "$work/chains.done" ] || echo "$sizes" >"$work/sizes"
[ "$sizes" = "$(cat "$work/sizes")" ] || { echo "$work was begun with $(cat "$work/sizes"), not $sizes" >&2 && exit 2; }

stage() { # NAME COMMAND...: run once, its output beside its work
    [ -e "$work/$1.done" ] && return
    echo "==> $1"
    mkdir -p "$(dirname "$work/$1")"
    "${@:2}" 2>&1 | tee "$work/$1.log"
    touch "$work/$1.done"
}

measure() { # NAME MODEL
    stage "$1/bench" $omni bench --model-path "$2" --max-new-tokens 400 ${limit:+--limit "$limit"} --device "$device" \
        --output-dir "$work/$1/bench"
}

learn() { # NAME DATA SEED OPTIONS...: PeSFT of the base model, and its bench
    stage "$1/pesft" $omni pesft --config configs/pesft/miniature.yaml --num-train-epochs 100 --max-steps "$steps" \
        --gradient-accumulation-steps 2 --model-path "$base" --train-data "$2" --output-path "$work/$1/model" \
        --seed "$3" --save-steps 100 --resume-from-checkpoint last "${@:4}"
    measure "$1" "$work/$1/model"
}

drawing() { # NAME RECIPE MODEL OPTIONS...
    stage "$1/bootstrap" $omni bootstrap --config "configs/bootstrap/$2.yaml" --input "$work/chains.jsonl" \
        --model-path "$3" --output-path "$work/$1/drawn" --device "$device" "${@:4}"
    stage "$1/report" $omni report --run-dir "$work/$1/drawn"
}

reinforce() { # NAME DATA SEED OPTIONS...: PeRPO of what NAME's PeSFT left, and its bench
    stage "$1-perpo/$3/perpo" $omni perpo --config configs/perpo/miniature.yaml --max-steps "$perpo" --seed "$3" \
        --model-path "$work/$1/$3/model" --train-data "$2" --output-path "$work/$1-perpo/$3/model" \
        --resume-from-checkpoint last "${@:4}"
    measure "$1-perpo/$3" "$work/$1-perpo/$3/model"
}

zero() { # SEED
    drawing zero-1 miniature "$base" --min-confidence -0.01 # greedy: the same for all seeds
    learn "zero-1/$1" "$work/zero-1/drawn" "$1"
    drawing "zero-2/$1" miniature-again "$work/zero-1/$1/model" --seed "$1"
    learn "zero-2/$1" "$work/zero-2/$1/drawn" "$1"
    reinforce zero-2 "$work/zero-2/$1/drawn" "$1"
}

gold() { # NAME SEED OPTIONS_OF_PESFT [OPTIONS_OF_PERPO]: the same steps on traces of the same questions
    learn "$1/$2" "$work/gold/$1.jsonl" "$2" $3
    reinforce "$1" "$work/gold/$1.jsonl" "$2" ${4:-}
}

corpora="--count $rows --seed 2"
stage chains $corpus chains "$work/chains.jsonl" $corpora
stage gold $corpus traces "$base" "$work/gold/annotated.jsonl" $corpora
stage text $corpus traces "$base" "$work/gold/text.jsonl" $corpora --without-drawings
for setting in $settings; do
    if [ "$setting" = base ]; then
        measure base/0 "$base"
        continue
    fi
    for seed in $seeds; do
        case $setting in
        zero) zero "$seed" ;;
        annotated) gold annotated "$seed" "" ;;
        text) gold text "$seed" "--perception-weight 0" "--look none --mode text-only" ;;
        unfiltered) # every drawing is taken, whatever it is
            drawing unfiltered miniature "$base"
            learn "unfiltered/$seed" "$work/unfiltered/drawn" "$seed"
            ;;
        esac
    done
done

$python benchmarks/zero_results.py "$work" --json-path "$work/zero.json"
