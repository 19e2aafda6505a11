"""`omni-r1 pesft`: train a checkpoint on trajectories with HF Trainer, save a checkpoint in the same layout.

Deviations from the original, each a defect of it: the projection is a part of the trained module, in the optimiser
and saved; the VQ is frozen and outside; hidden states of the last layer only; logits only where there is a target.
"""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils.data import Dataset

from omni_r1.errors import InputError, OmniError
from omni_r1.files import read_jsonl, write_atomic
from omni_r1.model import Omni, load
from omni_r1.options import PesftOptions
from omni_r1.pesft.dataset import PadRight, StepSampler, TrajectoryDataset
from omni_r1.pesft.losses import IGNORED, Alignment, code_targets, cross_entropy_sum, perception_sum
from omni_r1.run_record import describe_run
from omni_r1.vocabulary import Vocabulary

LOG = "log.jsonl"


def code_of(vocabulary: Vocabulary) -> Tensor:
    """(V,) the code of each token id, -1 for ids that are no image code."""
    table = torch.full((vocabulary.size,), -1)
    table[vocabulary.codes] = torch.arange(len(vocabulary.codes))
    return table


class PesftModule(nn.Module):
    """What is trained: the language model, and the projection W (D x H, with bias) of the perception loss."""

    def __init__(self, omni: Omni, alignment: Alignment) -> None:
        super().__init__()
        self.model = omni.model
        self.alignment = alignment
        table = omni.model.model.vqmodel.quantize.embedding.weight
        self.projection = nn.Linear(omni.model.config.hidden_size, table.shape[1])
        self.code_of: Tensor
        self.register_buffer("code_of", code_of(omni.vocabulary), persistent=False)

    def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Sums and counts over a micro-batch: text and code cross-entropy apart, and the perception loss."""
        # Rows are padded on the right, so causal attention alone is right and no mask slows it down.
        hidden = self.model.model(input_ids=input_ids, use_cache=False).last_hidden_state
        ce, targets = cross_entropy_sum(hidden, self.model.lm_head, labels)
        is_code = self.code_of[targets] >= 0
        table = self.model.model.vqmodel.quantize.embedding.weight
        codes = code_targets(labels, self.code_of)
        pe, count = perception_sum(hidden, self.projection, table, codes, self.alignment)
        return {
            "ce": ce.sum(),
            "ce_text": ce[~is_code].sum().detach(),
            "ce_code": ce[is_code].sum().detach(),
            "texts": (~is_code).sum(),
            "codes": torch.tensor(count, device=ce.device),
            "pe": pe,
        }


class PesftTrainer(transformers.Trainer):
    """HF Trainer with the PeSFT loss, means taken over all targets of an optimiser step (of this process)."""

    def __init__(self, *, data: TrajectoryDataset, codes: Tensor, perception_weight: float, **kwargs: Any) -> None:
        super().__init__(train_dataset=data, **kwargs)
        self.data, self.code_of, self.perception_weight = data, codes, perception_weight
        self.model_accepts_loss_kwargs = True  # the loss is already a mean over the step: no division by micro-batches
        self.step_targets = self.step_codes = 1
        self.sums: dict[str, float] = {}

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> StepSampler:
        step_size = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return StepSampler(self.data, step_size, self.args.seed)

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        targets = [int((batch["labels"][:, 1:] != IGNORED).sum()) for batch in batches]
        codes = [int((code_targets(batch["labels"], self.code_of) >= 0).sum()) for batch in batches]
        self.step_targets, self.step_codes = max(1, sum(targets)), max(1, sum(codes))
        return batches, torch.tensor(self.step_targets, device=device)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        parts = model(**inputs)
        loss = parts["ce"] / self.step_targets + self.perception_weight * parts["pe"] / self.step_codes
        if not torch.isfinite(loss):
            step = self.state.global_step + 1
            raise OmniError(f"the loss is {loss.item()} at step {step}: stopped before the update")
        for name in ("ce_text", "ce_code", "texts", "codes", "pe"):
            self.sums[name] = self.sums.get(name, 0.0) + parts[name].item()
        return (loss, parts) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self.sums and "loss" in logs:
            texts, codes = max(self.sums["texts"], 1.0), max(self.sums["codes"], 1.0)
            logs["ce_text"] = round(self.sums["ce_text"] / texts, 4)
            logs["ce_code"] = round(self.sums["ce_code"] / codes, 4)
            logs["perception"] = round(self.sums["pe"] / codes, 4)
            self.sums = {}
        super().log(logs, start_time)


class LogFile(transformers.TrainerCallback):
    """Every logged row as a line of `log.jsonl` in the output folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_log(self, args, state, control, logs=None, **kwargs):
        with self.path.open("a") as out:
            out.write(json.dumps({"step": state.global_step, **(logs or {})}) + "\n")


def save_perception(path: Path, module: PesftModule, weight: float) -> None:
    """Save the trained projection beside the checkpoint: weight (D, H), bias (D,), alignment and loss weight."""
    tensors = {"weight": module.projection.weight, "bias": module.projection.bias}
    tensors = {name: tensor.detach().cpu().float().contiguous() for name, tensor in tensors.items()}
    write_atomic(path, save(tensors, {"alignment": module.alignment, "loss_weight": str(weight)}))


def resumed_step(options: PesftOptions) -> int:
    """The step a run resumes after, 0 for one from the start. Raises InputError where there is nothing to resume."""
    if options.resume_from_checkpoint is None:
        return 0
    state = Path(options.resume_from_checkpoint) / "trainer_state.json"
    try:
        return int(json.loads(state.read_text())["global_step"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"no resumable checkpoint: {error}", file=state, field="resume_from_checkpoint") from error


def cut_log(path: Path, step: int) -> None:
    """Keep the rows up to a step: those of an interrupted run behind its last checkpoint will come again."""
    rows = read_jsonl(path) if step and path.exists() else []
    kept = [row for _, row in rows if isinstance(row, dict) and row["step"] <= step]
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in kept))


def pesft(options: PesftOptions) -> int:
    """The verb: train `options.model_path` on `options.train_data`, save to `options.output_path`."""
    done = resumed_step(options)
    if options.report_to != "none" and find_spec(options.report_to) is None:
        raise InputError(f"{options.report_to} is not installed", field="report_to")
    transformers.set_seed(options.seed)
    omni = load(options.model_path, dtype=options.dtype)
    dataset = TrajectoryDataset(Path(options.train_data), omni.vocabulary, options.max_length)
    module = PesftModule(omni, options.alignment)
    output = Path(options.output_path)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot be written: {error}", field="output_path") from error
    cut_log(output / LOG, done)
    write_atomic(output / "run.json", json.dumps(describe_run(options, options.seed), indent=1) + "\n")
    arguments = transformers.TrainingArguments(
        output_dir=str(output / "steps"),
        learning_rate=options.learning_rate,
        num_train_epochs=options.num_train_epochs,
        max_steps=options.max_steps,
        per_device_train_batch_size=options.per_device_train_batch_size,
        gradient_accumulation_steps=options.gradient_accumulation_steps,
        warmup_steps=options.warmup_ratio,  # a fraction below 1 is a ratio
        lr_scheduler_type=options.lr_scheduler_type,
        weight_decay=options.weight_decay,
        adam_beta2=options.adam_beta2,
        max_grad_norm=options.max_grad_norm,
        logging_steps=options.logging_steps,
        save_strategy="steps" if options.save_steps else "no",
        save_steps=options.save_steps or 500,
        save_total_limit=2,
        report_to=options.report_to,
        seed=options.seed,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    trainer = PesftTrainer(
        model=module,
        args=arguments,
        data=dataset,
        codes=code_of(omni.vocabulary),
        data_collator=PadRight(omni.vocabulary.pad),
        callbacks=[LogFile(output / LOG)],
        perception_weight=options.perception_weight,
    )
    trainer.train(resume_from_checkpoint=options.resume_from_checkpoint)
    omni.save(output)
    save_perception(output / "perception.safetensors", module, options.perception_weight)
    return 0
