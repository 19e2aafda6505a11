"""Law 2: from any prefix, random logits give only legal sequences. Checked by rules written apart from the grammar."""

import random

import pytest
import torch

from omni_r1.grammar import Grammar, GrammarError

S, TOKENS = 16, 100_000


def check(vocabulary, mode, ids, length, budget, limit):
    """The contract's words on the response, window by window as the original applies them; and no control tokens."""
    codes = set(vocabulary.codes.tolist())
    drawn = 0
    for position in range(length, len(ids)):
        token = ids[position]
        before = ids[max(0, position - S - 1) : position]
        since = before[::-1].index(vocabulary.boi) if vocabulary.boi in before else None
        assert token not in {vocabulary.bos, vocabulary.pad, vocabulary.image} - {vocabulary.eos}
        if mode == "text-only":
            assert token not in codes and token not in (vocabulary.boi, vocabulary.eoi)
            continue
        assert (token in codes) == (since is not None and since < S)
        assert (token == vocabulary.eoi) == (since == S)
        if token == vocabulary.boi:
            drawn += 1
            assert budget - (position - length) >= S + 2
        if mode == "image-only":
            assert token in codes or token in (vocabulary.boi, vocabulary.eoi, vocabulary.eos)
            assert position > length or token != vocabulary.eos
    assert limit is None or drawn <= limit


def prefix(vocabulary, rng):
    whole = [vocabulary.boi, *(int(vocabulary.codes[rng.randrange(64)]) for _ in range(S)), vocabulary.eoi]
    noise = [rng.randrange(vocabulary.size) for _ in range(rng.randrange(6))]
    ends = [[], whole, whole[: rng.randrange(1, S + 2)], noise, [*whole, 3, *whole]]
    return [vocabulary.bos, *rng.choice([[], noise, whole]), *rng.choice(ends)]


@pytest.mark.parametrize("mode", ["interleaved", "image-only", "text-only"])
def test_random_logits_stay_legal(vocabulary, mode):
    rng, generator = random.Random(mode), torch.Generator().manual_seed(0)
    tokens = 0
    while tokens < TOKENS:
        limit = rng.choice([None, 0, 1, 2] if mode != "image-only" else [None, 1, 2])
        budget = rng.choice([1, S + 1, S + 2, S + 3, 60, 200])
        grammar = Grammar(vocabulary, mode, limit)
        rows = []
        while len(rows) < 64:
            ids = prefix(vocabulary, rng)
            try:
                rows.append([ids, len(ids), grammar.start(ids, budget)])
            except GrammarError:
                budget += 1  # too small for what this prefix leaves open, or the prefix ends in a broken image
        rows = [[ids, length, grammar.start(ids, budget)] for ids, length, _ in rows]
        alive = rows
        for _ in range(budget):
            logits = 3 * torch.randn(len(alive), vocabulary.size, generator=generator)
            logits[:, vocabulary.boi] += 6  # or no image would ever begin
            chosen = grammar.mask(logits, [row[2] for row in alive]).softmax(-1).multinomial(1, generator=generator)
            for row, token in zip(alive, chosen.flatten().tolist(), strict=True):
                row[0].append(token)
                row[2] = grammar.advance(row[2], token)
            tokens += len(alive)
            alive = [row for row in alive if row[0][-1] != vocabulary.eos]
            if not alive:
                break
        for ids, length, _ in rows:
            check(vocabulary, mode, ids, length, budget, limit)
            assert len(grammar.indices(ids, length, budget)) == len(ids) - length
            if mode != "text-only":
                assert not [fault for fault in grammar.violations(ids, length) if "image" in str(fault)]
