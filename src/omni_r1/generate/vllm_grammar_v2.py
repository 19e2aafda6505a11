"""The grammar inside vLLM's newer runner, whose interface for logits processors older releases do not have."""

from typing import Any

from torch import Tensor
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcRequestState
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as ProcessorV2

from omni_r1.generate.vllm_grammar import Follower, Grammars, check, mask, settings_of


class GrammarV2(ProcessorV2):
    """For the runner that keeps token ids on the device: what was sampled last is read back at every step."""

    def __init__(self, vllm_config: VllmConfig, req_states: LogitsProcRequestState) -> None:
        self.grammars = Grammars(vllm_config, req_states.device)
        self.slots = req_states
        self.waiting: dict[int, dict[str, Any]] = {}
        self.requests: dict[int, Follower] = {}

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        check(sampling_params)

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        self.requests.pop(req_idx, None)
        self.waiting.pop(req_idx, None)
        settings = settings_of(sampling_params)
        if settings is not None:
            self.waiting[req_idx] = settings  # its prompt is on the device from the next step on
        return settings is not None

    def apply(self, logits: Tensor, ctx: LogitsContext) -> Tensor:
        followers = {}
        lengths = (ctx.pos + 1).tolist()  # of each row's sequence, what is to be sampled not counted
        for row, (slot, length) in enumerate(zip(ctx.expanded_idx_mapping.tolist(), lengths, strict=True)):
            prompt_length = int(self.slots.prompt_len.np[slot])
            if slot in self.waiting and length >= prompt_length:  # a prompt that is read in parts is not yet whole
                settings = self.waiting.pop(slot)
                self.requests[slot] = Follower(self.grammars, settings, self._ids(slot, 0, prompt_length))
            if slot in self.requests:
                one = followers[row] = self.requests[slot]
                one.follow(self._ids(slot, prompt_length + one.seen, length))
        return mask(logits, followers)

    def _ids(self, slot: int, start: int, end: int) -> list[int]:
        return self.slots.all_token_ids.gpu[slot, start:end].tolist()
