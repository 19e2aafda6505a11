#!/usr/bin/env bash
# PeRPO of Omni-R1 on verl, in the environment of docs/verl.md: eight GPUs of 80 GB, or several such nodes.
# .venv-verl of the repository is taken where it is there, else the python of the path, or PYTHON=.
#
#   runs/perpo_verl.sh CHECKPOINT TRAIN.jsonl VALIDATION.jsonl OUT [key=value ...]
#
# Rows are questions with `prompt`, `images` and `answer` (docs/data.md). Words behind OUT are verl's, by Hydra's rules:
# trainer.total_training_steps=60, reward.custom_reward_function.reward_kwargs.profile=default.
#
# On several nodes CHECKPOINT and OUT are at the same place on each, and ray is started first,
#   on the first node:       ray start --head --port 6379
#   on each of the others:   ray start --address FIRST:6379
# then on the first node:    NODES=4 runs/perpo_verl.sh ...
# and in the end on each:    ray stop
set -euo pipefail
[ $# -ge 4 ] || { sed -n '5,15s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ -d "$1" ] || { echo "CHECKPOINT is a folder, and $1 is none; of a hub id: hf download $1 --local-dir FOLDER" >&2; exit 2; }
checkpoint=$(realpath "$1") train=$2 validation=$3 out=$4
shift 4
root=$(dirname "$0")/..
python=${PYTHON:-python}
[ -n "${PYTHON:-}" ] || [ ! -x "$root/.venv-verl/bin/python" ] || python=$root/.venv-verl/bin/python
$python -c 'import sys, importlib.util; sys.exit(not importlib.util.find_spec("verl"))' || { echo "$python has no verl: docs/verl.md says how it is installed" >&2; exit 2; }
recipe=$root/configs/verl/omni-r1.yaml
template=${TEMPLATE:-plain} # templated for Omni-R1-Zero
mkdir -p "$out"
out=$(realpath "$out")
if [ "${NODES:-1}" -gt 1 ]; then
    export RAY_ADDRESS=${RAY_ADDRESS:-auto} # the ray that was started, not another one on this node alone
fi
settings=(
    "actor_rollout_ref.model.path=$checkpoint"
    "data.train_files=$out/train.parquet"
    "data.val_files=$out/validation.parquet"
    "trainer.default_local_dir=$out/checkpoints"
    "trainer.nnodes=${NODES:-1}"
    "trainer.n_gpus_per_node=${GPUS:-8}"
    "$@"
)

# A mistake in the settings is found in seconds, before pictures are encoded.
$python -m omni_r1.perpo.verl_plugins.launch --check "$recipe" "${settings[@]}"
for part in train validation; do
    [ "$out/$part.parquet" -nt "${!part}" ] || $python -m omni_r1.perpo.verl_plugins.rows --input "${!part}" \
        --model-path "$checkpoint" --output-path "$out/$part.parquet" --template "$template" --device "${DEVICE:-cuda}"
done
$python -m omni_r1.perpo.verl_plugins.launch "$recipe" "${settings[@]}"
echo "checkpoints that omni-r1 loads: $out/checkpoints/global_step_*/actor/huggingface"
