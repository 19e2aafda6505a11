"""The trained loss against the plain formula: loss and every gradient, padded, packed, in chunks, under the grammar."""

import pytest
import torch
from torch.nn import functional as F

import omni_r1
from omni_r1.grammar import Grammar
from omni_r1.model import Omni
from omni_r1.pesft import losses
from omni_r1.pesft.activations import checkpoint_layers
from omni_r1.pesft.losses import IGNORED
from omni_r1.pesft.module import PesftModule
from omni_r1.pesft.packing import PACKED, Pack, PadRight, attention
from omni_r1.trajectory import Image, Text, Trajectory
from tiny import write_checkpoint

CLOSE = 1e-5


@pytest.fixture(scope="module")
def omni(tmp_path_factory) -> Omni:
    return omni_r1.load(write_checkpoint(tmp_path_factory.mktemp("loss")))


@pytest.fixture(params=["own", "original"])
def either(request, omni) -> Omni:
    """The checkpoint of our own, and the one that the original code wrote."""
    return omni if request.param == "own" else omni_r1.load(request.getfixturevalue("tiny"))


def rows(vocabulary) -> list[dict]:
    draw, codes, length = torch.Generator().manual_seed(0), len(vocabulary.codes), vocabulary.image_length
    out = []
    for number, images in enumerate((0, 1, 2, 1)):
        pictures = [Image(tuple(torch.randint(codes, (length,), generator=draw).tolist())) for _ in range(3)]
        said = [part for picture in pictures[:images] for part in (Text("See: "), picture)]
        whole = Trajectory((Text("What is it? " * number), pictures[2]), (*said, Text("\nFinal Answer: a")), ended=True)
        rendered = vocabulary.render(whole)
        ids = torch.tensor(rendered.ids)
        labels = ids.clone()
        labels[: rendered.prompt_length] = IGNORED
        out.append({"input_ids": ids, "labels": labels, "name": str(number)})
    return out


def step(module: PesftModule, batches: list[dict]) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss with lambda 1, means over all targets, and the gradients."""
    module.zero_grad()
    kept = [{name: batch[name] for name in batch if name not in ("names", "tokens")} for batch in batches]
    parts = [module(**batch) for batch in kept]
    targets = sum(int(part["texts"] + part["codes"]) for part in parts)
    codes = sum(int(part["codes"]) for part in parts)
    loss = sum(part["ce"] / targets + part["pe"] / codes for part in parts)
    loss.backward()
    return loss.item(), gradients(module)


def gradients(module: PesftModule) -> dict[str, torch.Tensor]:
    return {name: weight.grad.clone() for name, weight in module.named_parameters() if weight.requires_grad}


def plain(module: PesftModule, batch: dict, alignment: str) -> tuple[float, dict[str, torch.Tensor]]:
    """Paper eq 1 to 3 as they stand: whole logits, one mean over all targets."""
    module.zero_grad()
    ids, labels = batch["input_ids"], batch["labels"]
    out = module.model(input_ids=ids)
    ce = F.cross_entropy(out.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
    terms = []
    for row in range(len(ids)):
        for place in range(ids.shape[1]):
            code = int(module.code_of[ids[row, place]])
            if labels[row, place] != IGNORED and code >= 0:
                state = out.last_hidden_state[row, place if alignment == "same" else place - 1]
                terms.append((module.projection(state) - module.codebook[code]).square().mean())
    loss = ce + torch.stack(terms).mean()
    loss.backward()
    return loss.item(), gradients(module)


def assert_equal(one: tuple[float, dict], two: tuple[float, dict]) -> None:
    assert one[0] == pytest.approx(two[0], abs=CLOSE)
    assert one[1].keys() == two[1].keys()
    for name, gradient in one[1].items():
        assert torch.allclose(gradient, two[1][name], rtol=0, atol=CLOSE), name
        assert gradient.abs().max() > 0, name


@pytest.mark.parametrize("alignment", ["same", "next"])
@pytest.mark.parametrize("chunk", [3000, losses.LOGITS_AT_ONCE])
def test_the_plain_formula(either, alignment, chunk, monkeypatch):
    monkeypatch.setattr(losses, "LOGITS_AT_ONCE", chunk)
    module = PesftModule(either, alignment)
    batch = PadRight(either.vocabulary.pad)(rows(either.vocabulary))
    assert_equal(step(module, [batch]), plain(module, batch, alignment))


@pytest.mark.parametrize("ce", ["full", "grammar"])
@pytest.mark.parametrize("kept", ["none", "selective", "full"])
def test_packed_equals_padded(either, ce, kept):
    omni = either
    module = PesftModule(omni, "next", ce).train()
    data = rows(omni.vocabulary)
    padded = step(module, [PadRight(omni.vocabulary.pad)(data)])
    checkpoint_layers(omni.model, kept)
    try:
        with attention(omni.model, PACKED):
            assert_equal(step(module, [Pack()(data)]), padded)
            assert_equal(step(module, [Pack()(data[:1]), Pack()(data[1:])]), padded)
    finally:
        checkpoint_layers(omni.model, "none")
        module.eval()


def test_a_row_does_not_see_the_row_before_it(omni):
    data = rows(omni.vocabulary)
    with attention(omni.model, PACKED):
        whole = Pack()(data[1:3])
        other = Pack()([data[3], data[2]])
        states = [
            omni.model.model(
                batch["input_ids"], position_ids=batch["position_ids"], families=batch["families"], use_cache=False
            ).last_hidden_state[0, -len(data[2]["input_ids"]) :]
            for batch in (whole, other)
        ]
    assert torch.allclose(*states, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kept", ["none", "selective", "full"])
def test_branches_equal_rows_of_their_own(either, kept):
    """Two prompts, of three responses and of none: states, and gradients of what is made of them."""
    model = either.model.train()
    ids = [row["input_ids"] for row in rows(either.vocabulary)]
    prompt, branches, alone = ids[0][:9], [ids[1][:7], ids[2][:1], ids[3][:12]], ids[0][:8]
    weights = torch.linspace(-1, 1, model.config.hidden_size)

    def gradients(states: torch.Tensor) -> list[torch.Tensor]:
        model.zero_grad()
        (states * weights).square().sum().backward()
        return [each.grad.clone() for each in model.parameters() if each.grad is not None]

    def states(row: torch.Tensor, **how) -> torch.Tensor:
        return model.model(row[None], use_cache=False, **how).last_hidden_state[0]

    apart = [states(torch.cat([prompt, branch])) for branch in branches] + [states(alone)]
    wanted = torch.cat([apart[0][: len(prompt)], *(one[len(prompt) :] for one in apart[:3]), apart[3]])
    by_rows = gradients(wanted)
    checkpoint_layers(model, kept)
    families = [[len(prompt), *map(len, branches)], [len(alone)]]
    starts = [0, *[len(prompt)] * 3, 0]
    places = [
        torch.arange(start, start + size) for start, size in zip(starts, [*families[0], *families[1]], strict=True)
    ]
    try:
        with attention(model, PACKED):
            how = {"position_ids": torch.cat(places)[None], "families": families}
            found = states(torch.cat([prompt, *branches, alone]), **how)
            together = gradients(found)
    finally:
        checkpoint_layers(model, "none")
        model.eval()
    assert torch.allclose(found, wanted, rtol=0, atol=1e-5)
    for one, other in zip(together, by_rows, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-4)


def test_grammar_is_what_the_sampler_draws_from(omni):
    """The loss of each response is its negative log-prob under `Grammar`, and no forbidden token gets a gradient."""
    module = PesftModule(omni, "next", "grammar")
    for row in rows(omni.vocabulary):
        ids, start = row["input_ids"].tolist(), int((row["labels"] != IGNORED).nonzero()[0])
        grammar = Grammar(omni.vocabulary)
        sets = grammar.sets[grammar.indices(ids, start, budget=10_000)]
        logits = omni.model(torch.tensor([ids])).logits[0, start - 1 : -1]
        logprobs = logits.masked_fill(~sets, -torch.inf).log_softmax(-1)
        wanted = -logprobs.gather(1, torch.tensor(ids[start:])[:, None]).sum().item()
        parts = module(**{name: row[name][None] for name in ("input_ids", "labels")})
        assert parts["ce"].item() == pytest.approx(wanted, abs=1e-4)
        assert parts["ce"].item() == pytest.approx((parts["ce_text"] + parts["ce_code"]).item(), abs=1e-4)


def test_autocast_gives_the_sum_in_full_precision(omni):
    module = PesftModule(omni, "next")
    batch = PadRight(omni.vocabulary.pad)(rows(omni.vocabulary))
    whole, _ = step(module, [batch])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half, grads = step(module, [batch])
    assert half == pytest.approx(whole, rel=2e-2) and half != float(torch.tensor(half).bfloat16())
    assert all(grad.dtype == torch.float32 for grad in grads.values())


def test_nothing_to_learn_is_no_loss(omni):
    """A micro-batch of blanks takes part in every gradient, with zero."""
    module = PesftModule(omni, "next")
    blank = {"input_ids": torch.tensor([[omni.vocabulary.pad]]), "labels": torch.tensor([[IGNORED]])}
    for ce in ("full", "grammar"):
        module.ce = ce
        module.zero_grad()
        parts = module(**blank)
        (parts["ce"] + parts["pe"]).backward()
        assert parts["ce"].item() == parts["pe"].item() == 0
        assert all(grad.abs().max() == 0 for grad in gradients(module).values())
