"""verl's trainer under the grammar: `actor_rollout_ref.model.external_lib=omni_r1.perpo.verl_plugins.engine`.

Importing this registers, in each of verl's processes, three things: our Chameleon for `from_pretrained` (upstream's
bars every image code), an engine whose log-probs are under the grammar, as the sampler's are, and the agent loop.
Without the grammar the ratio of eq 15 would be taken on another distribution than the one sampled from, for old and new
alike, so that nothing would show it.
"""

import os
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from transformers import AutoModelForImageTextToText, ChameleonConfig
from verl.utils import tensordict_utils
from verl.workers.engine import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from omni_r1.errors import InputError
from omni_r1.grammar import FREE, GrammarError
from omni_r1.model import Chameleon
from omni_r1.perpo.verl_plugins import agent_loop  # noqa: F401  registers itself
from omni_r1.perpo.verl_plugins.settings import GrammarSettings, vocabulary_of

VENDOR = "omni_r1"  # verl's registry keeps engines by device and vendor; ours is a vendor's
BARRED = -1e30  # a logit no softmax sees; -inf would make the entropy 0 * inf


class GrammarEngine(FSDPEngineWithLMHead):
    """verl's FSDP engine for language models; what differs is said at each method.

    Raises InputError for settings under which the grammar could not be applied.
    """

    def __init__(self, model_config: Any, engine_config: Any, *rest: Any, **named: Any) -> None:
        if engine_config.ulysses_sequence_parallel_size > 1:
            raise InputError("the grammar needs whole sequences", field="ulysses_sequence_parallel_size")
        if model_config.use_fused_kernels:
            raise InputError("the grammar needs logits, which fused kernels do not make", field="use_fused_kernels")
        self.settings = GrammarSettings.of(model_config.override_config)
        super().__init__(model_config, engine_config, *rest, **named)
        self.grammar = self.settings.grammar(vocabulary_of(model_config.local_path, model_config.local_tokenizer_path))
        self._barred: Tensor | None = None

    def prepare_model_inputs(self, micro_batch: TensorDict) -> tuple[dict[str, Any], dict[str, Any]]:
        """Where sequences are packed, also where each ends.

        Upstream's Chameleon keeps `position_ids` from its attention, by which flash attention would tell the sequences
        of a pack apart; it would silently attend across them.
        """
        inputs, output_args = super().prepare_model_inputs(micro_batch)
        if inputs["attention_mask"] is None:
            ends = micro_batch["input_ids"].offsets()
            if output_args["pad_size"]:
                ends = torch.cat([ends, ends[-1:] + output_args["pad_size"]])
            longest = int(ends.diff().max())
            ends = ends.to(torch.int32)
            inputs |= {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}
        return inputs, output_args

    def prepare_model_outputs(
        self, output: Any, output_args: Any, micro_batch: TensorDict, *rest: Any, **named: Any
    ) -> Any:
        """Log-probs and entropy of the distribution that the sampler chose from: barred tokens have none.

        Raises GrammarError naming the row, counted from 1, whose response could not have been sampled.
        """
        packed = tensordict_utils.get_non_tensor_data(data=micro_batch, key="use_remove_padding", default=True)
        index = self._indices(micro_batch, output.logits.shape[:2], packed).to(output.logits.device)
        if self._barred is None:
            self._barred = ~self.grammar.sets.to(output.logits.device)
        lowest = max(BARRED, torch.finfo(output.logits.dtype).min / 4)
        output.logits = output.logits.masked_fill(self._barred[index], lowest)
        return super().prepare_model_outputs(output, output_args, micro_batch, *rest, **named)

    def _indices(self, micro_batch: TensorDict, shape: torch.Size, packed: bool) -> Tensor:
        """(rows, T) index into the grammar's sets of what may follow each position; FREE outside of responses."""
        index = torch.full(tuple(shape), FREE)
        start = 0
        prompts = _lengths(micro_batch["prompts"], micro_batch)
        rows = zip(micro_batch["input_ids"].unbind(), prompts, micro_batch["response_mask"].unbind(), strict=True)
        for number, (row, prompt, mask) in enumerate(rows):
            ids = row.tolist()
            if mask.any():  # or it is a row of verl's own that only fills up the batch
                try:
                    allowed = self.grammar.indices(ids, prompt, self.settings.budget)
                except GrammarError as error:
                    raise GrammarError(f"row {number + 1} of the batch: {error}") from None
                place, offset = (0, start) if packed else (number, 0)
                index[place, offset + prompt - 1 : offset + len(ids) - 1] = allowed
            start += len(ids)
        return index


def _lengths(prompts: Any, micro_batch: TensorDict) -> list[int]:
    """Tokens of each prompt, whichever of verl's two layouts they come in."""
    if prompts.is_nested:
        return prompts.offsets().diff().tolist()
    return micro_batch["attention_mask"][:, : prompts.shape[1]].sum(1).tolist()


AutoModelForImageTextToText.register(ChameleonConfig, Chameleon, exist_ok=True)
EngineRegistry.register(model_type="language_model", backend="fsdp2", device=["cuda", "npu", "cpu"], vendor=VENDOR)(
    GrammarEngine
)
os.environ["VERL_ENGINE_VENDOR"] = VENDOR  # or verl would take its own engine
