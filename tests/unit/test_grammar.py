import numpy as np
import pytest
import torch

from omni_r1.errors import OmniError
from omni_r1.grammar import MODES, Grammar, GrammarError, images_whole
from omni_r1.trajectory import Image, Text, plain
from omni_r1.vocabulary import Vocabulary

S = 16
PICTURE = Image(tuple(range(S)))


def allowed(grammar, state):
    return set(grammar.sets[grammar.allowed(state)].nonzero().flatten().tolist())


def image(vocabulary):
    return [vocabulary.boi, *vocabulary.codes[:S].tolist(), vocabulary.eoi]


def walk(grammar, state, tokens):
    for token in tokens:
        state = grammar.advance(state, token)
    return state


def text(vocabulary):
    """All tokens but those of images and those that mean nothing in a response."""
    control = {vocabulary.boi, vocabulary.eoi, vocabulary.bos, vocabulary.pad, vocabulary.image}
    return set(range(vocabulary.size)) - set(vocabulary.codes.tolist()) - control


def test_interleaved(vocabulary):
    grammar = Grammar(vocabulary)
    codes, outside = set(vocabulary.codes.tolist()), text(vocabulary) | {vocabulary.boi}
    state = grammar.start([vocabulary.bos], 100)
    assert allowed(grammar, state) == outside
    state = grammar.advance(state, vocabulary.boi)
    for code in vocabulary.codes[:S].tolist():
        assert allowed(grammar, state) == codes
        state = grammar.advance(state, code)
    assert allowed(grammar, state) == {vocabulary.eoi}
    state = grammar.advance(state, vocabulary.eoi)
    assert allowed(grammar, state) == outside


def test_text_only(vocabulary):
    grammar = Grammar(vocabulary, "text-only")
    for prompt in ([], image(vocabulary), [vocabulary.boi], image(vocabulary)[:5]):
        assert allowed(grammar, grammar.start(prompt, 3)) == text(vocabulary)


def test_image_only(vocabulary):
    grammar = Grammar(vocabulary, "image-only")
    state = grammar.start([vocabulary.bos], 2 * S + 3)
    assert allowed(grammar, state) == {vocabulary.boi}
    state = walk(grammar, state, image(vocabulary))
    assert allowed(grammar, state) == {vocabulary.eos}  # S + 1 tokens are left, an image takes S + 2
    state = walk(grammar, grammar.start([vocabulary.bos], 2 * S + 4), image(vocabulary))
    assert allowed(grammar, state) == {vocabulary.boi, vocabulary.eos}
    state = walk(grammar, grammar.start([vocabulary.boi], 2 * S + 4), image(vocabulary)[1:])
    assert allowed(grammar, state) == {vocabulary.boi, vocabulary.eos}


def test_unrestricted(vocabulary):
    grammar = Grammar(vocabulary, "unrestricted")
    state = grammar.start([vocabulary.boi, vocabulary.eoi, vocabulary.boi], 1)
    for token in torch.randint(vocabulary.size, (200,)).tolist():
        assert allowed(grammar, state) == set(range(vocabulary.size))
        state = grammar.advance(state, token)


@pytest.mark.parametrize("mode", ["interleaved", "image-only"])
def test_an_image_needs_room(vocabulary, mode):
    grammar = Grammar(vocabulary, mode)
    assert vocabulary.boi in allowed(grammar, grammar.start([], S + 2))
    if mode == "interleaved":
        assert vocabulary.boi not in allowed(grammar, grammar.start([], S + 1))
    open_at = [[vocabulary.bos, *image(vocabulary)[:count]] for count in range(1, S + 2)]
    for prompt in open_at:
        needed = S + 2 - len(prompt) + 1
        assert allowed(grammar, grammar.start(prompt, needed)) <= {*vocabulary.codes.tolist(), vocabulary.eoi}
        with pytest.raises(GrammarError):
            grammar.start(prompt, needed - 1)


def test_budget_shrinks_with_every_token(vocabulary):
    grammar = Grammar(vocabulary)
    state = grammar.start([], S + 4)
    for left in range(S + 4, 0, -1):
        assert (vocabulary.boi in allowed(grammar, state)) == (left >= S + 2)
        state = grammar.advance(state, 0)


def test_max_images_counts_the_response(vocabulary):
    drawn = image(vocabulary)
    for limit in range(3):
        grammar = Grammar(vocabulary, max_images=limit)
        state = grammar.start([vocabulary.bos, *drawn, *drawn], 1000)
        for _ in range(limit):
            state = walk(grammar, state, drawn)
        assert vocabulary.boi not in allowed(grammar, state) and vocabulary.eos in allowed(grammar, state)


def test_illegal_tokens(vocabulary):
    grammar = Grammar(vocabulary)
    state = grammar.start([vocabulary.bos], 100)
    for token in (int(vocabulary.codes[0]), vocabulary.eoi, -1, vocabulary.size):
        with pytest.raises(GrammarError):
            grammar.advance(state, token)
    inside = grammar.advance(state, vocabulary.boi)
    for token in (vocabulary.eoi, vocabulary.boi, vocabulary.eos, 0):
        with pytest.raises(GrammarError):
            grammar.advance(inside, token)
    with pytest.raises(GrammarError):
        grammar.indices([vocabulary.bos, vocabulary.eoi], 1, 100)


def test_broken_image_at_the_end_of_the_prompt(vocabulary):
    for prompt in ([vocabulary.boi, 0], image(vocabulary)[:4] + [vocabulary.eoi], image(vocabulary)[:6] + [4]):
        for mode in ("interleaved", "image-only"):
            with pytest.raises(GrammarError):
                Grammar(vocabulary, mode).start(prompt, 1000)


def test_modes(vocabulary):
    for mode in (*MODES, "interleaved-text-image"):
        sets = Grammar(vocabulary, mode).sets
        assert sets.dtype == torch.bool and sets.shape[1] == vocabulary.size and len(sets) < 10
    assert torch.equal(Grammar(vocabulary).sets, Grammar(vocabulary, "interleaved-text-image").sets)
    with pytest.raises(OmniError):
        Grammar(vocabulary, "text")


def test_mask_is_row_by_row(vocabulary):
    grammar = Grammar(vocabulary)
    states = [grammar.start([], 100), grammar.start([vocabulary.boi], 100), grammar.start([], 1)]
    logits = torch.randn(3, vocabulary.size)
    masked = grammar.mask(logits, states)
    for row, state in enumerate(states):
        open_ = grammar.sets[grammar.allowed(state)]
        assert torch.equal(masked[row][open_], logits[row][open_])
        assert (masked[row][~open_] == -torch.inf).all()
    assert len({*states, grammar.start([], 1)}) == 3


def test_indices_are_what_the_sampler_saw(vocabulary):
    rendered = vocabulary.render(plain([PICTURE, Text("a")], [Text("the "), PICTURE, Text("x"), PICTURE], "b"))
    response = rendered.ids[rendered.prompt_length :]
    for budget in (len(response), 1000):
        grammar = Grammar(vocabulary)
        state, seen = grammar.start(rendered.ids[: rendered.prompt_length], budget), []
        for token in response:
            seen.append(grammar.allowed(state))
            state = grammar.advance(state, token)
        found = grammar.indices(rendered.ids, rendered.prompt_length, budget)
        assert found.dtype == torch.long and found.tolist() == seen
        assert grammar.sets[found, torch.tensor(response)].all()
        assert grammar.violations(rendered.ids, rendered.prompt_length) == []


def test_padding_behind_the_end(vocabulary):
    ids = [vocabulary.bos, *image(vocabulary), vocabulary.eos, vocabulary.pad, vocabulary.pad]
    for mode in ("interleaved", "image-only"):
        grammar = Grammar(vocabulary, mode)
        assert len(grammar.indices(ids, 1, 100)) == len(ids) - 1
        assert grammar.violations(ids, 1) == []


def test_violations(vocabulary):
    grammar = Grammar(vocabulary, "unrestricted")
    boi, eoi, code = vocabulary.boi, vocabulary.eoi, int(vocabulary.codes[3])
    whole = image(vocabulary)
    good = [[], [0], whole, [0, *whole, 0, *whole, vocabulary.eos]]
    bad = [
        [code],
        [eoi],
        [*whole[:-2], eoi],
        [boi, *[code] * (S + 1), eoi],
        [boi, code, 0],
        [boi, code, boi, *[code] * S, eoi],
        whole[:-1],
        [boi],
    ]
    for response in good:
        assert grammar.violations([vocabulary.bos, *whole, *response], S + 3) == []
    for response in bad:
        assert len(grammar.violations([vocabulary.bos, *whole, *response], S + 3)) == 1, response
    both = [code, 0, *whole[:-2], eoi, *whole, eoi]
    assert len(grammar.violations([vocabulary.bos, *both], 1)) == 3
    assert grammar.violations([vocabulary.bos, *whole[:4], *whole[4:], 0], 5) == []  # begun in the prompt
    assert len(grammar.violations([vocabulary.bos, *whole[:4], *whole[5:], 0], 5)) == 1
    assert grammar.violations([vocabulary.bos, boi, eoi, 0], 3) == []  # the prompt's own fault


def test_the_original_greedy_sequences(tiny):
    """Every token the original chose is allowed, with nothing but the budget of its run known."""
    published = Vocabulary.from_checkpoint(tiny)
    golden = np.load(tiny.parents[1] / "golden" / "tiny" / "golden.npz")
    runs = [name for name in golden if name.startswith("gen_")]
    assert len(runs) == 12
    for name in runs:
        mode, _, prompt = name.removeprefix("gen_").rpartition("_")
        grammar = Grammar(published, mode.replace("_", "-"))
        ids, length = golden[name].tolist(), len(golden[f"prompt_{prompt}"])
        assert len(grammar.indices(ids, length, 68)) == len(ids) - length


def test_an_image_open_in_the_prompt_is_the_responses(vocabulary):
    """It counts among the images it may have, and among those that are whole or not."""
    codes, S = vocabulary.codes.tolist(), vocabulary.image_length
    prompt = [vocabulary.bos, vocabulary.boi, *codes[:3]]
    grammar = Grammar(vocabulary, max_images=1)
    state = grammar.start(prompt, 100)
    for token in [*codes[3:S], vocabulary.eoi]:
        state = grammar.advance(state, token)
    assert not grammar.sets[grammar.allowed(state)][vocabulary.boi]
    assert images_whole([*prompt, *codes[3:S], vocabulary.eoi], len(prompt), vocabulary) == [True]
    assert images_whole([*prompt, *codes[3:S]], len(prompt), vocabulary) == [False]
    whole = [vocabulary.bos, vocabulary.boi, *codes[:S], vocabulary.eoi]
    assert images_whole([*whole, 0], len(whole), vocabulary) == []
