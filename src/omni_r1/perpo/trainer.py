"""TRL's GRPOTrainer on rollouts of our own: its loop, engines, adapters and metrics, the rest for a model that draws.

Where it deviates from TRL. Prompts are token ids with pictures in them, and responses come from a `Backend` under the
grammar; TRL has no place for either. Log-probs are under the same grammar. Groups are chosen before anything is made
of them (`Rollouts`). The KL term is the paper's plain log ratio, not TRL's k3 (`policy_loss`). The reference is loaded
here: TRL would build the stock class, which cannot draw. What is overridden is private to TRL: its version is pinned.
"""

import shutil
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from omni_r1.files import writing
from omni_r1.generate.vllm_backend import VllmBackend
from omni_r1.model import Chameleon
from omni_r1.options import PerpoOptions
from omni_r1.perpo.logprobs import NOTHING, Scores, TokenScorer
from omni_r1.perpo.loss import group_advantages, policy_loss
from omni_r1.perpo.rollouts import Group, Harvest, Rollout, Rollouts, processes, rank
from omni_r1.perpo.samples import write_samples
from omni_r1.perpo.upstream import GRPOConfig, GRPOTrainer
from omni_r1.perpo.watch import Watch, harvest_figures
from omni_r1.pesft.packing import attention
from omni_r1.pesft.resumable import GoingOn, Resumable
from omni_r1.pesft.saving import Saver

WEIGHTS = ".rollout-weights"  # folder of the run from which vLLM takes the weights after an update
MEASURED = ("loss_policy", "kl", "entropy", "clip_low", "clip_high")


class Learned(NamedTuple):
    """A response to learn from, its advantage, and the row that it is an answer to."""

    rollout: Rollout
    advantage: float
    name: str

    def prompt(self) -> list[int]:
        return self.rollout.completion.ids[: self.rollout.completion.prompt_length]


def no_reward(**_: Any) -> list[float | None]:
    """TRL insists on one; rewards come with the rollouts."""
    raise NotImplementedError


class PerpoTrainer(Resumable, GRPOTrainer):
    """Trains the model of `rollouts.omni`, or the adapter that `saver` has put on it.

    A step (`options.max_steps` of them) harvests groups and takes `updates` optimiser steps on them, in mini-batches of
    whole groups. `reference` is the fixed model of the KL term; with an adapter the model without it is. Both are to
    have the attention `packing.PACKED`. Raises OmniError before an update whose loss or gradient is not finite.
    """

    def __init__(
        self,
        *,
        rollouts: Rollouts,
        saver: Saver,
        options: PerpoOptions,
        reference: Chameleon | None,
        args: GRPOConfig,
        start: Path | None = None,
        **kwargs: Any,
    ) -> None:
        self.rollouts, self.saver, self.options, self.reference = rollouts, saver, options, reference
        self.scorer = TokenScorer(rollouts.grammar, rollouts.sampling)
        self.watch = Watch(options.max_drift)
        questions = options.train_batch_size  # TRL deals rows of a data set; ours come from `rollouts`
        super().__init__(
            model=rollouts.omni.model,
            reward_funcs=[no_reward],
            args=args,
            train_dataset=Dataset.from_dict({"prompt": [""] * questions}),
            processing_class=rollouts.omni.vocabulary.tokenizer,
            **kwargs,
        )
        self.weight_of = torch.ones(rollouts.omni.vocabulary.size, device=self.accelerator.device)
        self.weight_of[rollouts.omni.vocabulary.codes] = options.image_weight
        self.steps = Path(args.output_dir or ".")
        self.updates = options.train_batch_size // options.mini_batch_size
        self.micro_batches = self.updates * args.gradient_accumulation_steps
        self.batches: list[dict[str, Any]] = []
        self.finished = time.perf_counter()  # when the last harvest was ready
        self.alarms: list[str] = []  # of the step that is made
        if start is not None:
            self.add_callback(GoingOn(self, start))

    @property
    def step(self) -> int:
        """The number, from 1, of the step that is made."""
        return self.state.global_step // self.updates + 1

    def running(self) -> dict[str, Any]:
        return {"draws": self.rollouts.draws.position, "watch": self.watch.state()}

    def set_running(self, state: dict[str, Any]) -> None:
        self.rollouts.draws.position = state["draws"]
        self.watch.set_state(state["watch"])

    def _send_telemetry(self) -> None:
        """TRL tells its hub of every run; this project tells nobody."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """TRL writes one into every checkpoint; the run's own is written at its end."""

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        """The next micro-batch; TRL's own say nothing. With the first of a step all of them are made."""
        place, parts = self._step % self.micro_batches, self.args.gradient_accumulation_steps
        if place == 0:
            self.batches = self.harvest()
        if place % parts == 0:
            update = self.batches[place : place + parts]
            self.step_names = [name for batch in update for name in batch["names"]]
        return self.batches[place]

    def harvest(self) -> list[dict[str, Any]]:
        """The micro-batches of a step, those of this process, with log-probs under policy and reference."""
        started = time.perf_counter()
        self._refresh()
        with attention(self.rollouts.omni.model, "sdpa"), self.accelerator.autocast():
            found = self.rollouts.harvest()
        found.seconds["refresh"] = time.perf_counter() - started - sum(found.seconds.values())
        batches = [self._batch(rows) for rows in self._dealt(found.kept)]
        self._weigh(batches)
        harvested = time.perf_counter()
        figures = self._add_logps(batches)
        self.finished = time.perf_counter()
        found.seconds["log_probs"] = self.finished - harvested
        self._tell(found, figures)
        return batches

    def _refresh(self) -> None:
        """Give the policy's weights to samplers that have a copy of them: one process of a machine writes, all read."""
        if not isinstance(self.rollouts.backend, VllmBackend) or not self.state.global_step:
            return
        writer = rank() - self.accelerator.local_process_index
        folder = self.steps / WEIGHTS / str(writer)
        if rank() == writer:
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
            self.saver.save_whole(folder)
        self._wait()
        self.rollouts.backend.reload(folder)
        self._wait()
        if rank() == writer:
            with writing(folder):
                shutil.rmtree(folder)  # it is as large as a checkpoint

    def _dealt(self, groups: Sequence[Group]) -> list[list[Learned]]:
        """The rows of each micro-batch: mini-batches of whole groups, of which each process takes every n-th.

        Groups go to the mini-batches in turn, so that those that are not mixed, which come last, are spread over them.
        Within a mini-batch, whose loss is a mean over rows in whatever order, like lengths go together, and groups do,
        whose prompt is computed once in a micro-batch.
        """
        per_batch, dealt = self.args.per_device_train_batch_size, []
        for place in range(self.updates):
            learned = [self._learned(group) for group in groups[place :: self.updates]]
            learned.sort(key=lambda group: max(len(row.rollout.completion.ids) for row in group))
            rows = [row for group in learned for row in group]
            blocks = [rows[start : start + per_batch] for start in range(0, len(rows), per_batch)]
            dealt += blocks[rank() :: processes()]
        return dealt

    def _weigh(self, batches: Sequence[dict[str, Any]]) -> None:
        """For means over tokens: the mean weight of the response tokens in a micro-batch of each update."""
        if self.options.loss_aggregation != "token-mean":
            return
        parts = self.args.gradient_accumulation_steps
        for start in range(0, len(batches), parts):
            update = batches[start : start + parts]
            own = sum(float(batch["weights"].sum()) for batch in update) / parts
            total = torch.tensor(own, dtype=torch.float64, device=self.accelerator.device)
            tokens = float(self.accelerator.reduce(total, "mean"))
            for batch in update:
                batch["tokens"] = tokens

    def _learned(self, group: Group) -> list[Learned]:
        values = torch.tensor([one.value for one in group.rollouts], dtype=torch.float64)
        mixed = group.mixed(self.options.filter_metric)
        advantages = group_advantages(values).tolist() if mixed else [0.0] * len(values)
        return [
            Learned(one, advantage, group.prompt.name)
            for one, advantage in zip(group.rollouts, advantages, strict=True)
        ]

    def _batch(self, rows: Sequence[Learned]) -> dict[str, Any]:
        """What the model is to see: all tokens end to end in one row (1, N), each prompt once, its responses behind it.

        And of each of the rows, padded on the right, for the last token of the prompt and those of the response: ids,
        sets, weights, sampled and places in that one row (B, 1 + T); advantages (B,).
        """
        device = self.accelerator.device
        seen: list[int] = []
        positions: list[int] = []
        families: list[list[int]] = []
        places: list[Tensor] = []
        for prompt, family in groupby(rows, key=Learned.prompt):
            positions += range(len(prompt))
            seen += prompt
            families.append([len(prompt)])
            last = len(seen) - 1
            for row in family:
                response = row.rollout.completion.ids[len(prompt) :]
                places.append(torch.tensor([last, *range(len(seen), len(seen) + len(response))]))
                positions += range(len(prompt), len(prompt) + len(response))
                seen += response
                families[-1].append(len(response))

        def padded(columns: list[Tensor], fill: float) -> Tensor:
            return pad_sequence(columns, batch_first=True, padding_value=fill).to(device)

        sampled = [torch.tensor(row.rollout.completion.logprobs, dtype=torch.float32) for row in rows]
        tokens = torch.tensor(seen)
        ids = padded([tokens[each] for each in places], self.rollouts.omni.vocabulary.pad)
        allowed = [
            self.rollouts.grammar.indices(one.ids, one.prompt_length, self.options.max_new_tokens)
            for one in (row.rollout.completion for row in rows)
        ]
        sets = padded([pad(each, (1, 0), value=NOTHING) for each in allowed], NOTHING)
        return {
            "input_ids": tokens[None].to(device),
            "position_ids": torch.tensor([positions], device=device),
            "families": families,
            "places": padded(places, 0),
            "ids": ids,
            "sets": sets,
            "weights": (sets != NOTHING) * self.weight_of[ids],
            "sampled": padded([pad(values, (1, 0)) for values in sampled], 0.0),
            "advantages": torch.tensor([row.advantage for row in rows], dtype=torch.float32, device=device),
            "names": [row.name for row in rows],
        }

    def _scores(self, model: Any, batch: dict[str, Any], sampled: bool = False) -> Scores:
        """Of each token, under the grammar, computed inside the model's forward."""

        def score(hidden: Tensor, head: torch.nn.Linear) -> Scores:
            return self.scorer(hidden[0, batch["places"]], head, batch["ids"], batch["sets"], sampled)

        seen = {name: batch[name] for name in ("input_ids", "position_ids", "families")}
        with self.accelerator.autocast():
            return model(**seen, use_cache=False, score=score).logits

    @torch.no_grad()
    def _add_logps(self, batches: Sequence[dict[str, Any]]) -> dict[str, float]:
        """Put log-probs under the sampling policy and the reference into the batches. How far the sampler was off."""
        model = self.accelerator.unwrap_model(self.model)
        training, drift = model.training, torch.zeros(3, dtype=torch.float64, device=self.accelerator.device)
        model.eval()
        cut = self.options.top_p < 1 or self.options.top_k > 0
        for batch in batches:
            scores = self._scores(model, batch, cut)
            batch["old"] = scores.logps
            ours = scores.logps
            if scores.sampled is not None:  # a token on the very edge of the nucleus may be outside of it here
                ours = torch.where(scores.sampled.isfinite(), scores.sampled, ours)
            apart = (ours - batch["sampled"]).abs()[batch["sets"] != NOTHING].double()
            drift += torch.stack([apart.sum(), torch.tensor(float(len(apart))).to(apart), apart.new_zeros(())])
            drift[2] = torch.maximum(drift[2], apart.max())
            if self.options.kl_coef:
                batch["reference"] = self._reference_logps(model, batch)
        model.train(training)
        total, count, most = self.accelerator.gather(drift[None]).unbind(1)
        return {"drift": float(total.sum() / count.sum()), "drift_max": float(most.max())}

    def _reference_logps(self, model: Any, batch: dict[str, Any]) -> Tensor:
        if self.reference is not None:
            return self._scores(self.reference, batch).logps
        assert self.saver.peft is not None  # without a reference there is an adapter
        with self.saver.peft.disable_adapter():
            return self._scores(model, batch).logps

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        options = self.options
        scores = self._scores(model, inputs)
        loss = policy_loss(
            scores.logps,
            inputs["old"],
            inputs["advantages"],
            inputs["weights"],
            clip_low=options.clip_low,
            clip_high=options.clip_high,
            reference=inputs.get("reference"),
            kl_coef=options.kl_coef,
            kl_estimator=options.kl_estimator,
            entropies=scores.entropies,
            entropy_coef=options.entropy_coef,
            tokens=inputs.get("tokens"),
        )
        if not torch.isfinite(loss.total):
            self.stop(f"the loss is {loss.total.item()}", inputs["names"])
        found = self.accelerator.reduce(torch.stack(loss[1:]), "mean").tolist()
        for name, value in zip(MEASURED, found, strict=True):
            self._metrics["train"][name].append(value)
        return loss.total / self.current_gradient_accumulation_steps

    def _tell(self, found: Harvest, figures: dict[str, float]) -> None:
        """Figures of a step into its log row, alarms onto the console, samples into their folder."""
        figures = harvest_figures(found, self.options, self.rollouts.omni.vocabulary) | figures
        seconds = {f"seconds/{name}": round(value, 2) for name, value in found.seconds.items()}
        self.alarms = self.watch.alarms(figures)
        others = {"perpo_step": float(self.step), "alarms": float(len(self.alarms))}
        for name, value in {**others, **figures, **seconds}.items():
            self._metrics["train"][name].append(value)
        if not self.accelerator.is_main_process:
            return
        for alarm in self.alarms:
            print(f"omni-r1: alarm at step {self.step}: {alarm}", flush=True)
        every = self.options.sample_steps
        if every and (self.step == 1 or self.step % every == 0):
            folder = self.steps.parent / "samples" / f"step-{self.step:06d}"
            write_samples(folder, found.all, self.rollouts.omni, self.options)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            self._metrics["train"]["seconds/updates"].append(round(time.perf_counter() - self.finished, 2))
            logs |= {"alarm": "; ".join(self.alarms)} if self.alarms else {}  # type: ignore[dict-item]
        super().log(logs, start_time)
