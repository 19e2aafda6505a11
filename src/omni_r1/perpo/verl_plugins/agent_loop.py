"""The rollout: token ids to the server, token ids back, under the grammar. `rollout.agent.default_agent_loop=omni_r1`.

verl's own loops make a prompt's ids from chat messages by the tokenizer, which knows nothing of images; here they are
in the data (`extra_info.prompt_ids`), encoded once by the checkpoint's VQ.
"""

from typing import Any
from uuid import uuid4

from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopOutput, register
from verl.utils.profiler import simple_timer

from omni_r1.errors import InputError
from omni_r1.generate.backend import WorkerError
from omni_r1.grammar import Grammar, GrammarError
from omni_r1.perpo.verl_plugins.settings import GrammarSettings, vocabulary_of


@register("omni_r1")
class TokenAgentLoop(AgentLoopBase):
    """One response to one prompt of ids.

    A response that the grammar forbids is a WorkerError: the server samples without it, and the trainer's log-probs
    would be of another distribution.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        model = self.config.actor_rollout_ref.model
        self.settings = GrammarSettings.of(model.override_config)
        self.grammar: Grammar = self.settings.grammar(vocabulary_of(model.path, model.tokenizer_path))

    async def run(self, sampling_params: dict[str, Any], **kwargs: Any) -> AgentLoopOutput:
        """`kwargs` are a row of the data set. Raises InputError for a prompt that does not fit."""
        extra, priority = kwargs["extra_info"], int(kwargs.get("priority", 0))
        prompt = [int(token) for token in extra["prompt_ids"]]
        name = f"prompt {extra.get('id')!r}"
        if len(prompt) > self.rollout_config.prompt_length:
            wrong = f"{name} has {len(prompt)} tokens, more than {self.rollout_config.prompt_length}"
            raise InputError(wrong, field="data.max_prompt_length")
        metrics: dict[str, Any] = {}
        with simple_timer("generate_sequences", metrics):
            answer = await self.server_manager.generate(
                request_id=uuid4().hex,
                prompt_ids=prompt,
                sampling_params=self.request(sampling_params),
                priority=priority,
            )
        metrics["num_preempted"] = -1 if answer.num_preempted is None else answer.num_preempted
        said = list(answer.token_ids)
        if answer.stop_reason == "aborted" or not said:
            raise WorkerError(f"{name}: the server gave no answer ({answer.stop_reason})")
        try:
            self.grammar.indices(prompt + said, len(prompt), self.settings.budget)
        except GrammarError as error:
            raise WorkerError(f"{name}: the server does not keep to the grammar: {error}") from error
        return AgentLoopOutput(
            prompt_ids=prompt,
            response_ids=said,
            response_mask=[1] * len(said),
            response_logprobs=answer.log_probs or None,
            num_turns=2,
            metrics=metrics,
            extra_fields={**answer.extra_fields, "turn_scores": [], "tool_rewards": []},
        )

    def request(self, sampling_params: dict[str, Any]) -> dict[str, Any]:
        """verl's sampling parameters and ours, as vLLM's `SamplingParams` takes them."""
        return {
            **sampling_params,
            "max_tokens": self.settings.budget,
            "stop_token_ids": [self.grammar.vocabulary.eos],
            "ignore_eos": True,  # what generation_config.json holds for EOS may be another token
            "detokenize": False,
            "extra_args": self.settings.extra_args,
        }
