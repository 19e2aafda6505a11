"""What both trainers add to HF's: checkpoints that are whole or not there, and runs that go on as if untouched."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import transformers
from safetensors import SafetensorError
from torch.distributed import barrier

from omni_r1.errors import InputError, OmniError
from omni_r1.files import AppendLog, read_bytes, write_atomic
from omni_r1.pesft import checkpoints
from omni_r1.pesft.saving import Saver

CLOSING = "train_runtime"  # is in the last row only
RUNNING = ("_total_loss_scalar", "_globalstep_last_logged")  # of upstream, beside the loss since the last log row


class Resumable(transformers.Trainer):
    """To be inherited before a trainer of upstream's. `saver` writes and reads what is trained."""

    saver: Saver
    steps: Path
    step_names: Sequence[str | None] = ()  # of the rows of the step that is made

    def running(self) -> dict[str, Any]:
        """What a run that goes on needs beside upstream's state, as JSON; of each process its own."""
        raise NotImplementedError

    def set_running(self, state: dict[str, Any]) -> None:
        """Put back what `running` gave."""
        raise NotImplementedError

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

    def stop(self, what: str, names: Sequence[str | None]) -> NoReturn:
        """Raises OmniError: the numbers of a step are not finite."""
        rows = ", ".join(dict.fromkeys(name for name in names if name is not None))
        raise OmniError(f"{what} at step {self.state.global_step + 1}: stopped before the update, at rows {rows}")

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)
        if norm is not None and not math.isfinite(norm):
            self.stop(f"the norm of the gradient is {float(norm)}", self.step_names)
        return norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "train_loss" in logs:  # the last row; upstream's mean is over the steps since the run went on
            logs["train_loss"] = self._total_loss_scalar / max(self.state.global_step, 1)
        super().log(logs, start_time)

    def _save_rng_state(self, output_dir: str) -> None:
        """Upstream's, and what the next log row is made of."""
        super()._save_rng_state(output_dir)
        upstream = {name: getattr(self, name) for name in RUNNING}
        state = {"loss": self._tr_loss.item(), "upstream": upstream, "own": self.running()}
        write_atomic(Path(output_dir) / checkpoints.SUMS.format(self.args.process_index), json.dumps(state) + "\n")

    def load_running(self, start: Path) -> None:
        saved = json.loads(read_bytes(start / checkpoints.SUMS.format(self.args.process_index)))
        self._tr_loss.fill_(saved["loss"])
        for name in RUNNING:
            setattr(self, name, saved["upstream"][name])
        self.set_running(saved["own"])

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


class GoingOn(transformers.TrainerCallback):
    """Puts back what upstream forgets between two runs, or takes from the first: how often to log and save."""

    def __init__(self, trainer: Resumable, start: Path) -> None:
        self.trainer, self.start = trainer, start

    def on_train_begin(self, args, state, control, **kwargs):
        state.compute_steps(args, state.max_steps)
        self.trainer.load_running(self.start)


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

    def on_step_end(self, args, state, control, **kwargs):
        """The last step is logged, wherever it falls: its figures are those a run ends with."""
        control.should_log |= state.global_step == state.max_steps

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.log is not None:
            self.log.append({"step": state.global_step, **(logs or {})})
