"""What is trained: the language model and the projection of the perception loss. The VQ module is held beside them."""

import torch
from torch import Tensor, nn

from omni_r1.grammar import WITH_IMAGE, Grammar
from omni_r1.model import Omni
from omni_r1.options import CrossEntropy
from omni_r1.pesft.losses import Alignment, code_targets, cross_entropy, grammar_cross_entropy, perception_sum
from omni_r1.vocabulary import Vocabulary


def place_of(ids: Tensor, vocabulary: Vocabulary) -> Tensor:
    """(V,) the place of each token id among `ids`, -1 for those that are not there."""
    table = torch.full((vocabulary.size,), -1)
    table[ids] = torch.arange(len(ids))
    return table


class PesftModule(nn.Module):
    """The language model, and the projection W (D x H, with bias) of the perception loss (paper eq 2).

    Of the VQ module only the codebook is needed, and it is held where no engine finds it to cast, shard or save it;
    `Chameleon.vq_apart` takes the module out of the model's tree as well.
    """

    def __init__(self, omni: Omni, alignment: Alignment, ce: CrossEntropy = "full") -> None:
        super().__init__()
        self.model = omni.model
        self.alignment, self.ce = alignment, ce
        self.vq = [omni.model.model.vqmodel]  # in a list, where torch does not look for parts
        self.projection = nn.Linear(omni.model.config.hidden_size, self.codebook.shape[1])
        words = Grammar(omni.vocabulary).sets[WITH_IMAGE].nonzero()[:, 0]
        self.codes: Tensor
        self.code_of: Tensor
        self.words: Tensor
        self.word_of: Tensor
        for kind, ids in (("code", omni.vocabulary.codes), ("word", words)):
            self.register_buffer(f"{kind}s", ids, persistent=False)
            self.register_buffer(f"{kind}_of", place_of(ids, omni.vocabulary), persistent=False)

    @property
    def codebook(self) -> Tensor:
        """(K, D) fp32."""
        return self.vq[0].quantize.embedding.weight

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor,
        position_ids: Tensor | None = None,
        families: list[list[int]] | None = None,
    ) -> dict[str, Tensor]:
        """Sums and counts over a micro-batch: text and code cross-entropy apart, and the perception loss.

        Either (B, T) padded on the right, or with `families` rows that lie end to end in one (1, T) (`packing`).
        """
        packed = {} if families is None else {"position_ids": position_ids, "families": families}
        hidden = self.model.model(input_ids=input_ids, use_cache=False, **packed).last_hidden_state
        if self.ce == "grammar":
            kinds = (self.codes, self.code_of), (self.words, self.word_of)
            ce, losses, targets = grammar_cross_entropy(hidden, self.model.lm_head, labels, *kinds)
        else:
            ce, losses, targets = cross_entropy(hidden, self.model.lm_head, labels)
        is_code = self.code_of[targets] >= 0
        codes = code_targets(labels, self.code_of)
        pe, count = perception_sum(hidden, self.projection, self.codebook, codes, self.alignment)
        return {
            "ce": ce,
            "ce_text": losses[~is_code].sum(),
            "ce_code": losses[is_code].sum(),
            "texts": (~is_code).sum(),
            "codes": torch.tensor(count, device=ce.device),
            "pe": pe,
        }
