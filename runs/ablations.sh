#!/usr/bin/env bash
# The paper's Table 4 on the miniature: what PeRPO, its perception reward and drawing are worth, each with three seeds.
# Some ten hours on two CPU cores; every stage that is done is skipped on a re-run, one that was interrupted goes on.
#
#   runs/ablations.sh [WORK]     trains under WORK (default out/ablations); MINIATURE=folder of runs/miniature.sh
#                                (default out/miniature), of which `base` and `traces.jsonl` are needed
#   SEEDS="0 1" runs/ablations.sh WORK default original       these seeds and settings alone, then the table of all there are
#
# Every run begins with the same PeSFT checkpoint, stopped early: a first round of 700 steps instead of 1,000, and 180 of
# the second round's 750, its rate still high. "Without drawing" begins with one that was trained as long on the same
# traces without their drawings. The bench's 400 questions are in no training data.
set -euo pipefail
work=${1:-out/ablations}
mini=${MINIATURE:-out/miniature}
seeds=${SEEDS:-0 1 2}
settings=${*:2}
settings=${settings:-default paper original without-perception without-drawing}
python=${PYTHON:-.venv/bin/python}
omni="$python -m omni_r1.cli"
corpus="$python -m omni_r1.data.miniature.corpus"
pesft="$omni pesft --config configs/pesft/miniature.yaml --resume-from-checkpoint last"
first="--max-steps 700" second="--max-steps 750 --seed 1" stop=180
more="--seed 4 --tasks chart chart scene chart board chart diagram scene" # the mix of the second round
for setting in $settings; do
    case $setting in
    default | paper | original | without-perception | without-drawing) ;;
    *) echo "no setting $setting" >&2 && exit 2 ;;
    esac
done
mkdir -p "$work"

stage() { # NAME COMMAND...: run once, its output beside its work
    [ -e "$work/$1.done" ] && return
    echo "==> $1"
    mkdir -p "$(dirname "$work/$1")"
    "${@:2}" 2>&1 | tee "$work/$1.log"
    touch "$work/$1.done"
}

stopped() { # NAME COMMAND...: train until the checkpoint of step $stop is there, and no further
    [ -e "$work/$1.done" ] && return
    echo "==> $1"
    "${@:2}" --save-steps $stop --output-path "$work/$1" >"$work/$1.log" 2>&1 &
    until [ -e "$work/$1/steps/checkpoint-$stop/manifest.json" ]; do
        kill -0 $! 2>/dev/null || { echo "it ended before step $stop: $work/$1.log" >&2 && exit 1; }
        sleep 1
    done
    kill $!
    wait $! || true
    [ ! -e "$work/$1-first/perception_band.json" ] || # what step images are like
        cp "$work/$1-first/perception_band.json" "$work/$1/steps/checkpoint-$stop"
    touch "$work/$1.done"
}

early="$work/early/steps/checkpoint-$stop" early_text="$work/early-text/steps/checkpoint-$stop"

measure() { # NAME MODEL
    stage "$1/bench" $omni bench --suite miniature --model-path "$2" --max-new-tokens 400 --output-dir "$work/$1/bench"
}

train() { # NAME START OPTIONS...
    for seed in $seeds; do
        stage "$1/$seed/train" $omni perpo --config configs/perpo/miniature.yaml --seed "$seed" --model-path "$2" \
            --train-data "$work/questions.jsonl" --output-path "$work/$1/$seed/model" --resume-from-checkpoint last "${@:3}"
        measure "$1/$seed" "$work/$1/$seed/model"
    done
}

start() { # what all but one setting begin with
    stage more-traces $corpus traces "$mini/base" "$work/more.jsonl" --count 2400 $more --readings
    stage early-first $pesft $first --model-path "$mini/base" --train-data "$mini/traces.jsonl" \
        --output-path "$work/early-first"
    stopped early $pesft $second --model-path "$work/early-first" --train-data "$work/more.jsonl"
    measure pesft/0 "$early"
}

start_text() { # what "without drawing" does
    stage first-text $corpus traces "$mini/base" "$work/first-text.jsonl" --count 8000 --seed 2 --without-drawings
    stage more-text $corpus traces "$mini/base" "$work/more-text.jsonl" --count 2400 $more --without-drawings
    stage early-text-first $pesft $first --perception-weight 0 --model-path "$mini/base" \
        --train-data "$work/first-text.jsonl" --output-path "$work/early-text-first"
    stopped early-text $pesft $second --perception-weight 0 --model-path "$work/early-text-first" \
        --train-data "$work/more-text.jsonl"
    measure pesft-text/0 "$early_text"
}

stage questions $corpus traces "$mini/base" "$work/questions.jsonl" --count 4000 --seed 7
for setting in $settings; do
    if [ "$setting" = without-drawing ]; then start_text; else start; fi
    case $setting in
    default) train default "$early" ;;
    paper | original) train "$setting" "$early" --profile "$setting" ;;
    without-perception) train without-perception "$early" --look none ;;
    without-drawing) train without-drawing "$early_text" --look none --mode text-only ;;
    esac
done

$python benchmarks/ablations.py "$work" --json-path results/ablations.json --page docs/results.md
