"""HF Trainer with the PeSFT loss: means over all targets of an optimiser step, whoever had them in which micro-batch.

Deviations from the original, each a defect of it: the projection is a part of the trained module, in the optimiser
and saved; the VQ is frozen and outside; hidden states of the last layer only; logits only where there is a target.
"""

import json
import math
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch.distributed import barrier
from torch.utils.data import Dataset

from omni_r1.errors import InputError, OmniError
from omni_r1.files import AppendLog, read_bytes, write_atomic
from omni_r1.pesft import checkpoints
from omni_r1.pesft.dataset import Rows, StepSampler, WithBlanks
from omni_r1.pesft.losses import IGNORED, code_targets
from omni_r1.pesft.module import PesftModule
from omni_r1.pesft.packing import Pack
from omni_r1.pesft.saving import Saver

SUMS = ("ce_text", "ce_code", "texts", "codes", "pe", "tokens", "places")
CLOSING = "train_runtime"  # is in the last row only
RUNNING = ("_total_loss_scalar", "_globalstep_last_logged")  # of upstream, beside the loss since the last log row


class PesftTrainer(transformers.Trainer):
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
        self.step_names: list[str] = []
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
            self._stop(f"the loss is {loss.item()}", names)
        for name in ("ce_text", "ce_code", "texts", "codes", "pe"):
            self.sums[name] += parts[name].item()
        self.sums["tokens"] += tokens
        self.sums["places"] += inputs["input_ids"].numel()
        loss = loss * self.args.world_size  # gradients of processes are averaged, and their parts are to be summed
        return (loss, parts) if return_outputs else loss

    def _get_grad_norm(self, model, grad_norm=None):
        norm = super()._get_grad_norm(model, grad_norm)
        if norm is not None and not math.isfinite(norm):
            self._stop(f"the norm of the gradient is {float(norm)}", self.step_names)
        return norm

    def _stop(self, what: str, names: Sequence[str | None]) -> None:
        rows = ", ".join(name for name in names if name is not None)
        raise OmniError(f"{what} at step {self.state.global_step + 1}: stopped before the update, at rows {rows}")

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
        if "train_loss" in logs:  # the last row; upstream's mean is over the steps since the run went on
            logs["train_loss"] = self._total_loss_scalar / max(self.state.global_step, 1)
        super().log(logs, start_time)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Upstream's, but a run that stops ends the line of its progress bar, for the error to have its own."""
        try:
            return super().train(*args, **kwargs)
        finally:
            for callback in self.callback_handler.callbacks:
                if isinstance(callback, transformers.ProgressCallback) and callback.training_bar is not None:
                    callback.training_bar.close()  # type: ignore[unreachable]  # upstream writes it as None

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Upstream's, but a run that goes on from its very last step, inside an epoch, does not make one more."""
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(*args, **kwargs)

    def _save_rng_state(self, output_dir: str) -> None:
        """Upstream's, and what the next log row is made of: each process its own."""
        super()._save_rng_state(output_dir)
        upstream = {name: getattr(self, name) for name in RUNNING}
        sums = {"loss": self._tr_loss.item(), "seconds": self.clock.seconds, "sums": self.sums, "upstream": upstream}
        write_atomic(Path(output_dir) / checkpoints.SUMS.format(self.args.process_index), json.dumps(sums) + "\n")

    def load_sums(self, start: Path) -> None:
        saved = json.loads(read_bytes(start / checkpoints.SUMS.format(self.args.process_index)))
        self._tr_loss.fill_(saved["loss"])
        self.sums, self.clock.seconds = saved["sums"], saved["seconds"]
        for name in RUNNING:
            setattr(self, name, saved["upstream"][name])

    def _get_output_dir(self, trial: Any = None) -> str:
        return str(self.steps / checkpoints.STAGE)  # where upstream puts what `_save_checkpoint` moves

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Upstream's, in a stage of its own; then the whole of it takes its place (`checkpoints.seal`)."""
        name = f"{checkpoints.NAME}{self.state.global_step}"
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, SafetensorError) as error:
            raise InputError(f"cannot be written: {str(error).splitlines()[0]}", file=self.steps / name) from error
        except RuntimeError as error:  # torch.save's; what the system said is not in it
            words = f"cannot be written; is the disk full? torch says: {str(error).splitlines()[0]}"
            raise InputError(words, file=self.steps / name) from error
        self._wait()
        if self.args.should_save:
            checkpoints.seal(self.steps / checkpoints.STAGE / name, self.steps)
        self._wait()

    def _wait(self) -> None:
        if self.args.world_size > 1:
            barrier()

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        self.saver.save(Path(output_dir) if output_dir else self.steps, state_dict)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            self.saver.load(Path(resume_from_checkpoint))


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


class GoingOn(transformers.TrainerCallback):
    """Puts back what upstream forgets between two runs, or takes from the first: how often to log and save."""

    def __init__(self, trainer: PesftTrainer, start: Path) -> None:
        self.trainer, self.start = trainer, start

    def on_train_begin(self, args, state, control, **kwargs):
        state.compute_steps(args, state.max_steps)
        self.trainer.load_sums(self.start)


class LogFile(transformers.TrainerCallback):
    """Every logged row as a line of `log.jsonl` in the output folder, on disk before the next step (`AppendLog`).

    `open` it in the process that writes. Raises InputError for a damaged row, or where the system refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log: AppendLog | None = None

    def open(self, step: int) -> None:
        """Keep the rows up to a step, but no closing one: those behind, and the closing one, will come again."""
        if not step:  # whatever is there is no log of this run
            write_atomic(self.path, "")
        self.log = AppendLog(self.path)
        self.log.rewrite([row for row in self.log.rows if row["step"] <= step and CLOSING not in row])

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.log is not None:
            self.log.append({"step": state.global_step, **(logs or {})})
