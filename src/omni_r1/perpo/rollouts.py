"""What the policy answers: groups of responses to one question each, scored, and the groups worth learning from.

Dynamic sampling (paper, "mixed-outcome" groups; DAPO): a group whose responses are all as good teaches nothing and is
left out, and more questions are drawn until there are enough. What counts is `filter_metric`, by default accuracy: a
reward with a continuous part varies nearly always, and a group of wrong answers would train on that part alone.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed
from torch import Tensor

from omni_r1.errors import OmniError
from omni_r1.generate.backend import Backend, Completion, Request, SamplingOptions
from omni_r1.grammar import Grammar
from omni_r1.model import Omni
from omni_r1.options import PerpoOptions
from omni_r1.perpo.loss import overlong_penalty
from omni_r1.perpo.prompts import Draws, PromptRow, prompt_of, seeds_of
from omni_r1.perpo.reward import Judge, Profile, Response, Reward, score
from omni_r1.pesft.dataset import Rows


@dataclass(frozen=True)
class Rollout:
    """One response and its reward. `value` is what advantages are made of: the total, less what it loses by length."""

    completion: Completion
    reward: Reward
    value: float

    @property
    def length(self) -> int:
        """Tokens of the response."""
        return len(self.completion.ids) - self.completion.prompt_length


@dataclass(frozen=True)
class Group:
    """The responses to one question. `draw`: its number in the order of questions, in which it may come again."""

    draw: int
    prompt: PromptRow
    rollouts: list[Rollout]

    def mixed(self, metric: str) -> bool:
        """Whether the metric differs within the group."""
        values = [one.reward.accuracy if metric == "accuracy" else one.value for one in self.rollouts]
        return metric == "none" or max(values) - min(values) > 1e-9


@dataclass
class Harvest:
    """The groups of a step: `kept` to learn from, `all` that were sampled, and seconds by phase."""

    kept: list[Group] = field(default_factory=list)
    all: list[Group] = field(default_factory=list)
    mixed: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


class Rollouts:
    """Draws questions of `rows`, has `backend` answer each `group_size` times, and scores the answers.

    All processes call `harvest` together and get the same groups: each answers its part of the questions, and which
    those are and what random numbers they get depends on the number of the draw alone.
    """

    def __init__(
        self, omni: Omni, backend: Backend, rows: Rows, judge: Judge, profile: Profile, options: PerpoOptions
    ) -> None:
        self.omni, self.backend, self.rows = omni, backend, rows
        self.judge, self.profile, self.options = judge, profile, options
        for index in range(len(rows)):  # a row that has no question or answer is told of now, and not hours later
            prompt_of(rows, index, omni.vocabulary)
        self.draws = Draws(len(rows), options.seed)
        self.sampling = sampling_options(options)
        self.grammar = Grammar(omni.vocabulary, options.mode, options.max_images, options.max_text_tokens)

    def harvest(self) -> Harvest:
        """The groups of the next step: `train_batch_size` of them, mixed ones first.

        Where `max_gen_batches` rounds have not brought enough mixed groups, groups that are not mixed make up the
        number: their advantages are 0, so a step weighs what it has learned from.
        """
        wanted, found = self.options.train_batch_size, Harvest()
        plain: list[Group] = []
        for _ in range(self.options.max_gen_batches):
            for group in self._round(found.seconds):
                found.all.append(group)
                (found.kept if group.mixed(self.options.filter_metric) else plain).append(group)
            if len(found.kept) >= wanted:
                break
        found.mixed = len(found.kept)
        found.kept = (found.kept + plain)[:wanted]
        return found

    def _round(self, seconds: dict[str, float]) -> list[Group]:
        """The groups of `gen_batch_size` questions, in the order of their draws."""
        drawn = self.draws.take(self.options.gen_batch_size)
        own = [drawn[place] for place in range(rank(), len(drawn), processes())]
        prompts = [prompt_of(self.rows, index, self.omni.vocabulary) for _, index in own]
        started = time.perf_counter()
        completions = self._complete(own, prompts)
        generated = time.perf_counter()
        groups = self._scored(own, prompts, completions)
        scored = time.perf_counter()
        seconds["rollout"] = seconds.get("rollout", 0.0) + generated - started
        seconds["reward"] = seconds.get("reward", 0.0) + scored - generated
        return sorted(gathered(groups), key=lambda group: group.draw)

    def _complete(self, own: Sequence[tuple[int, int]], prompts: Sequence[PromptRow]) -> list[list[Completion]]:
        size = self.options.group_size
        requests = (
            Request(key, prompt.ids, seeds_of(draw, size, self.options.seed))
            for key, ((draw, _), prompt) in enumerate(zip(own, prompts, strict=True))
        )
        done: dict[tuple[int, int], Completion] = {}
        for key, place, completion in self.backend.stream(requests, self.sampling):
            if completion.error is not None:
                raise OmniError(f"{prompts[key].name}: no response: {completion.error}")
            done[key, place] = completion
        return [[done[key, place] for place in range(size)] for key in range(len(prompts))]

    def _scored(
        self, own: Sequence[tuple[int, int]], prompts: Sequence[PromptRow], completions: list[list[Completion]]
    ) -> list[Group]:
        flat = [one for group in completions for one in group]
        asked = [prompt for prompt, group in zip(prompts, completions, strict=True) for _ in group]
        states: Sequence[Tensor | None] = self._hidden(flat) if self.profile.look == "hidden" else [None] * len(flat)
        responses = [
            Response(one.ids, one.prompt_length, prompt.gold, prompt.options, hidden)
            for one, prompt, hidden in zip(flat, asked, states, strict=True)
        ]
        rewards = iter(score(responses, self.judge, self.profile))
        return [
            Group(draw, prompt, [self._rollout(one, next(rewards)) for one in group])
            for (draw, _), prompt, group in zip(own, prompts, completions, strict=True)
        ]

    def _rollout(self, one: Completion, reward: Reward) -> Rollout:
        length = len(one.ids) - one.prompt_length
        lost = self.options.overlong_penalty * overlong_penalty(
            length, self.options.max_new_tokens, self.options.overlong_buffer
        )
        return Rollout(one, reward, reward.total - lost)

    @torch.no_grad()
    def _hidden(self, completions: Sequence[Completion]) -> list[Tensor]:
        """(T, H) of each: the states after the final norm at all its positions."""
        device, model = self.omni.device, self.omni.model.model
        ids = (torch.tensor([one.ids], device=device) for one in completions)
        return [model(input_ids=each, use_cache=False).last_hidden_state[0].float().cpu() for each in ids]


def sampling_options(options: PerpoOptions) -> SamplingOptions:
    return SamplingOptions(
        mode=options.mode,
        max_new_tokens=options.max_new_tokens,
        do_sample=True,
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=options.top_k,
        max_images=options.max_images,
        max_text_tokens=options.max_text_tokens,
    )


def rank() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def processes() -> int:
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def gathered(groups: list[Group]) -> list[Group]:
    """The groups of all processes."""
    if processes() == 1:
        return groups
    lists: list[list[Group]] = [[] for _ in range(processes())]
    torch.distributed.all_gather_object(lists, groups)
    return [group for each in lists for group in each]
