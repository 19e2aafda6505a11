"""Chameleon that can draw: upstream's language model without the image mask, and a VQ module that decodes.

Upstream's `forward` overwrites the logits of every image code before loss and sampling, and its VQ module has no
decoder. Everything else (weights, attention, cache, generation hooks) is upstream's and stays so.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, ChameleonConfig, ChameleonForConditionalGeneration
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import can_return_tuple

from omni_r1.model.vq import VQDecoder


@dataclass
class ChameleonOutput(CausalLMOutputWithPast):
    """Upstream's output and `last_hidden_state` (B, T, hidden): the state after the final norm."""

    last_hidden_state: torch.FloatTensor | None = None


class Chameleon(ChameleonForConditionalGeneration):
    """Upstream Chameleon with raw logits, image codes included, and `model.vqmodel.decoder`.

    The VQ module is frozen, stays in eval mode under `.train()`, and `from_pretrained` keeps it in fp32 whatever
    dtype the language model gets: image ids must not depend on it.
    """

    _keep_in_fp32_modules_strict = ["vqmodel"]

    def __init__(self, config: ChameleonConfig) -> None:
        super().__init__(config)
        self.loss_type = "ForCausalLM"  # upstream guesses it from the class name
        self.model.vqmodel.decoder = VQDecoder(self.model.vqmodel.config)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Chameleon":
        """As always, but for the VQ module. `from_pretrained` makes new parameters and ends with `.eval()`."""
        super().train(mode)
        self.model.vqmodel.requires_grad_(False).eval()
        return self

    @contextmanager
    def vq_apart(self) -> Iterator[None]:
        """The VQ module outside the model's tree meanwhile, still reached as `model.vqmodel`: whatever casts, shards,
        saves or optimises the model leaves it whole, in fp32 and where it is."""
        vqmodel = self.model._modules.pop("vqmodel")
        self.model.__dict__["vqmodel"] = vqmodel
        try:
            yield
        finally:
            del self.model.__dict__["vqmodel"]
            self.model._modules["vqmodel"] = vqmodel

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        score: Callable[[Tensor, nn.Linear], Any] | None = None,
        **kwargs: Any,
    ) -> ChameleonOutput:
        """Raw logits (B, T, V) for `input_ids` (B, T); with `labels` (-100 ignored) also the shifted cross entropy.

        `logits_to_keep`: the last that many positions, 0 for all, or a 1-d tensor of positions. An empty tensor
        skips the head: a trainer that scores only some positions takes `last_hidden_state` and applies `lm_head`.
        `score(last_hidden_state, lm_head)` does that inside the model's forward, where an engine that spreads weights
        has them whole; what it returns stands in for the logits.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        hidden = outputs.last_hidden_state
        if score is not None:
            return ChameleonOutput(logits=score(hidden, self.lm_head), last_hidden_state=hidden)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(hidden[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        return ChameleonOutput(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            last_hidden_state=hidden,
        )
