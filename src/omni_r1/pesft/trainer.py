"""HF Trainer with the PeSFT loss: means over all targets of an optimiser step, whoever had them in which micro-batch.

Deviations from the original, each a defect of it: the projection is a part of the trained module, in the optimiser
and saved; the VQ is frozen and outside; hidden states of the last layer only; logits only where there is a target.
"""

import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.utils.data import Dataset

from omni_r1.pesft.dataset import Rows, StepSampler, WithBlanks
from omni_r1.pesft.losses import IGNORED, code_targets
from omni_r1.pesft.module import PesftModule
from omni_r1.pesft.packing import Pack
from omni_r1.pesft.resumable import GoingOn, Resumable
from omni_r1.pesft.saving import Saver

SUMS = ("ce_text", "ce_code", "texts", "codes", "pe", "tokens", "places")


class PesftTrainer(Resumable):
    """`module` on `rows`. Raises OmniError before an update whose loss or gradient is not finite, with its rows' names.

    The data loader gives a step's rows, `StepSampler` deals them to processes and micro-batches. Counts of a step are
    summed over all processes, so that the loss and its gradient are those of one process with all the rows.
    """

    def __init__(
        self,
        *,
        module: PesftModule,
        rows: Rows,
        saver: Saver,
        perception_weight: float,
        start: Path | None = None,
        **kwargs: Any,
    ) -> None:
        self.rows, self.module, self.saver, self.perception_weight = rows, module, saver, perception_weight
        super().__init__(model=module, train_dataset=WithBlanks(rows, saver.omni.vocabulary.pad), **kwargs)
        self.loss_is_scaled_for_ga = True  # the loss is already a mean over the step: no division by micro-batches
        self.steps = Path(self.args.output_dir or ".")
        self.step_targets = self.step_codes = 1
        self.sums = dict.fromkeys(SUMS, 0.0)
        self.clock = StepClock()
        self.add_callback(self.clock)
        if start is not None:
            self.add_callback(GoingOn(self, start))

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> StepSampler:
        batches = self.args.gradient_accumulation_steps * self.args.world_size
        even = isinstance(self.data_collator, Pack)
        sampler = StepSampler(self.rows, self.args.train_batch_size, batches, self.args.seed, even)
        self.add_callback(Epochs(sampler))
        return sampler

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        code_of = self.module.code_of.cpu()
        counts = torch.zeros(2, dtype=torch.long)
        for batch in batches:
            counts[0] += (batch["labels"][:, 1:] != IGNORED).sum().cpu()
            counts[1] += (code_targets(batch["labels"].cpu(), code_of) >= 0).sum()
        self.step_targets, self.step_codes = self._over_processes(counts).clamp(min=1).tolist()
        self.step_names = [name for batch in batches for name in batch["names"] if name is not None]
        return batches, None

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        names, tokens = inputs.pop("names"), inputs.pop("tokens")
        parts = model(**inputs)
        loss = parts["ce"] / self.step_targets + self.perception_weight * parts["pe"] / self.step_codes
        if not torch.isfinite(loss):
            self.stop(f"the loss is {loss.item()}", names)
        for name in ("ce_text", "ce_code", "texts", "codes", "pe"):
            self.sums[name] += parts[name].item()
        self.sums["tokens"] += tokens
        self.sums["places"] += inputs["input_ids"].numel()
        loss = loss * self.args.world_size  # gradients of processes are averaged, and their parts are to be summed
        return (loss, parts) if return_outputs else loss

    def _over_processes(self, values: torch.Tensor) -> torch.Tensor:
        if self.args.world_size == 1:
            return values
        return self.accelerator.reduce(values.to(self.args.device), "sum").cpu()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            own = torch.tensor(list(self.sums.values()), dtype=torch.float64)
            sums = dict(zip(SUMS, self._over_processes(own).tolist(), strict=True))
            texts, codes = max(sums["texts"], 1.0), max(sums["codes"], 1.0)
            logs["ce_text"] = round(sums["ce_text"] / texts, 4)
            logs["ce_code"] = round(sums["ce_code"] / codes, 4)
            logs["perception"] = round(sums["pe"] / codes, 4)
            logs["tokens_per_second"] = round(sums["tokens"] / max(self.clock.seconds, 1e-9), 1)
            logs["padding"] = round(1 - sums["tokens"] / max(sums["places"], 1.0), 4)
            logs["peak_memory_bytes"] = peak_memory()
            self.sums, self.clock.seconds = dict.fromkeys(SUMS, 0.0), 0.0
        super().log(logs, start_time)

    def running(self) -> dict[str, Any]:
        return {"seconds": self.clock.seconds, "sums": self.sums}

    def set_running(self, state: dict[str, Any]) -> None:
        self.sums, self.clock.seconds = state["sums"], state["seconds"]


def peak_memory() -> int:
    """The most this process has held so far, in bytes: of the GPU's memory where it has one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class StepClock(transformers.TrainerCallback):
    """Seconds spent in steps, neither in saving nor in drawing samples."""

    def __init__(self) -> None:
        self.seconds, self.start = 0.0, 0.0

    def on_step_begin(self, args, state, control, **kwargs):
        self.start = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds += time.perf_counter() - self.start


class Epochs(transformers.TrainerCallback):
    """Tells the sampler which epoch begins: wrapped for several processes or for resuming, nobody else does."""

    def __init__(self, sampler: StepSampler) -> None:
        self.sampler = sampler

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.sampler.set_epoch(int((state.epoch or 0.0) + 1e-6))
