"""Which questions are asked, with which seeds, and which groups of answers are learned from."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch

import omni_r1
from omni_r1.errors import InputError, OmniError
from omni_r1.generate.backend import Backend, Completion, Progress, Request, SamplingOptions
from omni_r1.generate.transformers_backend import TransformersBackend
from omni_r1.options import PerpoOptions
from omni_r1.perpo.judge import load_judge
from omni_r1.perpo.prompts import Draws, prompt_of, seeds_of
from omni_r1.perpo.reward import PROFILES, Judge
from omni_r1.perpo.rollouts import Rollouts
from omni_r1.pesft.dataset import TrajectoryDataset
from omni_r1.trajectory import Image
from perpo_rows import GOLD, SETTINGS, write_questions
from tiny import CODES, SIDE, write_checkpoint

SIZE = 2  # of a group
IMAGES = {"s": [7] * SIDE**2, "S": [(code * 37) % CODES for code in range(SIDE**2)]}  # a smooth and a rough one


class Scripted(Backend):
    """Answers the n-th group with the n-th word of a script, a letter for each response: `r`ight, `w`rong, `o`pen
    (wrong, and it does not end), `s` a wrong one with a smooth image, `e`rror. Completions come last first."""

    def __init__(self, omni, script: list[str]) -> None:
        self.omni, self.vocabulary, self.script = omni, omni.vocabulary, script
        self.asked: list[Request] = []

    def stream(
        self, requests: Iterable[Request], options: SamplingOptions, progress: Progress | None = None
    ) -> Iterator[tuple[int, int, Completion]]:
        done = []
        for request in requests:
            word = self.script[len(self.asked)]
            self.asked.append(request)
            done += [(request.key, place, self.answer(request, letter)) for place, letter in enumerate(word)]
        yield from reversed(done)

    def answer(self, request: Request, letter: str) -> Completion:
        words, prompt = self.vocabulary, list(request.prompt)
        if letter == "e":
            return Completion(prompt, len(prompt), error="out of luck")
        image = []
        if letter in IMAGES:
            image = [words.boi, *words.codes[IMAGES[letter]].tolist(), words.eoi]
        said = words.encode_text(f"So.\nFinal Answer: {GOLD if letter == 'r' else 'zz'}")
        response = [*image, *said, *([] if letter == "o" else [words.eos])]
        ids = prompt + response
        stop = "length" if letter == "o" else "end"
        return Completion(ids, len(prompt), words.parse(ids, len(prompt)), [-1.0] * len(response), stop)


@pytest.fixture(scope="module")
def omni(tmp_path_factory):
    return omni_r1.load(write_checkpoint(tmp_path_factory.mktemp("rollouts")))


@pytest.fixture(scope="module")
def rows(omni, tmp_path_factory):
    return TrajectoryDataset(write_questions(tmp_path_factory.mktemp("rows") / "rows.jsonl"), omni.vocabulary, 400)


def rollouts(omni, rows, script: str, **changed) -> Rollouts:
    shape = {"group_size": SIZE, "train_batch_size": 2, "mini_batch_size": 1, "gen_batch_size": 3, "max_steps": 1}
    settings = SETTINGS | shape | {"filter_metric": "accuracy"} | changed
    judge = Judge(omni.vocabulary, omni.model.model.vqmodel.quantize.embedding.weight.detach())
    backend = Scripted(omni, script.split())
    return Rollouts(omni, backend, rows, judge, PROFILES["paper"], PerpoOptions("a", "b", "c", **settings))


def kept(found) -> list[int]:
    return [group.draw for group in found.kept]


def test_mixed_groups_are_kept_in_the_order_of_their_draws(omni, rows):
    found = rollouts(omni, rows, "rr rw wr").harvest()
    assert kept(found) == [1, 2] and found.mixed == 2
    assert [group.draw for group in found.all] == [0, 1, 2]
    assert [[one.reward.accuracy for one in group.rollouts] for group in found.all] == [[1, 1], [1, 0], [0, 1]]


def test_no_more_than_is_wanted(omni, rows):
    found = rollouts(omni, rows, "wr rw wr").harvest()
    assert kept(found) == [0, 1] and found.mixed == 3 and len(found.all) == 3


def test_more_is_sampled_until_there_is_enough(omni, rows):
    """The second round brings the second mixed group, so there is no third; the next step goes on behind it."""
    made = rollouts(omni, rows, "ww rr rw ww wr rr rw rw rw", max_gen_batches=5)
    found = made.harvest()
    assert kept(found) == [2, 4] and len(found.all) == 6
    assert made.draws.position == 6 and kept(made.harvest()) == [6, 7]


def test_what_is_not_there_in_time_is_made_up_for(omni, rows):
    found = rollouts(omni, rows, "ww rr ww rr rw ww", max_gen_batches=2).harvest()
    assert kept(found) == [4, 0] and found.mixed == 1 and len(found.all) == 6
    assert [group.mixed("accuracy") for group in found.kept] == [True, False]


def test_what_counts_as_mixed(omni, rows):
    """All right or all wrong is dropped by accuracy; by reward a difference in form or looks is one too."""
    script = "rr ww wo ws"
    accuracy = rollouts(omni, rows, script, gen_batch_size=4, max_gen_batches=1).harvest()
    assert accuracy.mixed == 0 and kept(accuracy) == [0, 1]
    reward = rollouts(omni, rows, script, gen_batch_size=4, max_gen_batches=1, filter_metric="reward").harvest()
    assert reward.mixed == 2 and kept(reward) == [2, 3]
    every = rollouts(omni, rows, script, gen_batch_size=4, max_gen_batches=1, filter_metric="none").harvest()
    assert every.mixed == 4 and kept(every) == [0, 1]


def test_length_costs_reward_and_not_accuracy(omni, rows):
    how = {"gen_batch_size": 2, "max_gen_batches": 1, "max_new_tokens": 40, "overlong_buffer": 40}
    found = rollouts(omni, rows, "ws rr", overlong_penalty=0.5, **how).harvest()
    for group in found.all:
        for one in group.rollouts:
            assert one.value == pytest.approx(one.reward.total - 0.5 * one.length / 40)
    assert found.mixed == 0


def test_groups_of_the_same_draw_are_asked_alike(omni, rows):
    """What is asked hangs on seed and number of the draw, not on how many are asked at a time."""
    asked = []
    for size, batches in ((6, 1), (2, 3)):
        made = rollouts(omni, rows, "ww " * 6, gen_batch_size=size, max_gen_batches=batches)
        made.harvest()
        asked.append([(request.prompt, list(request.seeds)) for request in made.backend.asked])
    assert asked[0] == asked[1] and len(asked[0]) == 6
    other = rollouts(omni, rows, "ww " * 6, gen_batch_size=6, max_gen_batches=1, seed=1)
    other.harvest()
    assert [(request.prompt, list(request.seeds)) for request in other.backend.asked] != asked[0]


def test_a_response_that_fails_is_an_error_with_its_row(omni, rows):
    made = rollouts(omni, rows, "ww we ww")
    with pytest.raises(OmniError, match=r"rows.jsonl:\d+: no response: out of luck"):
        made.harvest()


@pytest.mark.parametrize("rows", [1, 2, 7, 100])
def test_every_pass_is_a_permutation(rows):
    draws = Draws(rows, seed=5)
    drawn = draws.take(4 * rows)
    assert [number for number, _ in drawn] == list(range(4 * rows)) and draws.position == 4 * rows
    passes = [[index for _, index in drawn[start : start + rows]] for start in range(0, 4 * rows, rows)]
    assert all(sorted(each) == list(range(rows)) for each in passes)
    if rows == 100:
        assert len({tuple(each) for each in passes}) == 4
        assert [index for _, index in Draws(rows, seed=6).take(rows)] != passes[0]


def test_a_position_is_all_there_is_to_go_on_from():
    whole = Draws(7, seed=3).take(40)
    for position in range(40):
        assert Draws(7, 3, position).take(40 - position) == whole[position:]
    parts = Draws(7, seed=3)
    assert [parts.take(size) for size in (3, 1, 9, 27)] == [whole[:3], whole[3:4], whole[4:13], whole[13:]]


def test_no_two_responses_have_the_same_seed():
    found = [seed for run in range(4) for draw in range(500) for seed in seeds_of(draw, 16, run)]
    assert len(set(found)) == len(found) == 4 * 500 * 16
    assert all(0 <= seed < 2**63 for seed in found)
    assert seeds_of(3, 16, 1)[:4] == seeds_of(3, 4, 1)  # a larger group begins with the smaller one


def prompts(path: Path, omni, *rows: dict) -> TrajectoryDataset:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return TrajectoryDataset(path, omni.vocabulary, 400)


@pytest.mark.parametrize(("options", "right"), [(None, 0), (["a boat", "zz"], 1)])
def test_a_choices_words_count_for_its_letter_where_the_choices_are_known(omni, tmp_path, options, right):
    row = {"prompt": [{"text": "What?"}], "response": [{"text": "\nFinal Answer: B"}], "ended": True}
    found = prompts(tmp_path / "rows.jsonl", omni, row | {"options": options})
    group, *_ = rollouts(omni, found, "rw rw", train_batch_size=1, gen_batch_size=1).harvest().all
    assert [one.reward.accuracy for one in group.rollouts] == [0, right]  # `a` and `zz`


def test_choices_that_are_none_are_named(omni, tmp_path):
    row = {"prompt": [{"text": "What?"}], "response": [{"text": "\nFinal Answer: B"}], "ended": True}
    with pytest.raises(InputError, match="rows.jsonl:2: field 'options': must be a list of texts"):
        prompts(tmp_path / "rows.jsonl", omni, row, row | {"options": "AB"})


def test_a_prompt_is_all_before_the_response(omni, rows):
    prompt = prompt_of(rows, 3, omni.vocabulary)
    assert prompt.gold == GOLD and prompt.name == "rows.jsonl:4"
    assert prompt.ids == rows[3]["input_ids"].tolist()[: len(prompt.ids)]
    parsed = omni.vocabulary.parse(prompt.ids, len(prompt.ids))
    assert parsed.prompt[0].text == "What is 3?" and isinstance(parsed.prompt[1], Image) and not parsed.response


@pytest.mark.parametrize("said", ["nothing of the kind", "\nFinal Answer: ", "\nFinal Answer:\n"])
def test_a_row_without_an_answer_is_named(omni, tmp_path, said):
    good = {"prompt": [{"text": "What?"}], "response": [{"text": "\nFinal Answer: b"}], "ended": True}
    found = prompts(tmp_path / "rows.jsonl", omni, good, good | {"response": [{"text": said}]})
    assert prompt_of(found, 0, omni.vocabulary).gold == "b"
    with pytest.raises(InputError, match="rows.jsonl:2.*field 'response'.*no final answer"):
        prompt_of(found, 1, omni.vocabulary)
    settings = PerpoOptions("m", "o", "d", max_steps=1)
    with pytest.raises(InputError, match="rows.jsonl:2.*no final answer"):  # before anything is sampled
        judge = load_judge(omni, tmp_path)
        Rollouts(omni, TransformersBackend(omni), found, judge, PROFILES["paper"], settings)


def test_a_row_that_asks_nothing_is_named(omni, tmp_path):
    good = {"prompt": [{"text": "What?"}], "response": [{"text": "\nFinal Answer: b"}], "ended": True}
    found = prompts(tmp_path / "rows.jsonl", omni, good, good | {"prompt": [{"text": "\n"}]})
    judge = load_judge(omni, tmp_path)
    with pytest.raises(InputError, match="rows.jsonl:2: field 'prompt': asks nothing"):
        settings = PerpoOptions("m", "o", "d", max_steps=1)
        Rollouts(omni, TransformersBackend(omni), found, judge, PROFILES["paper"], settings)


def test_a_row_that_is_no_trajectory_is_named(omni):
    class Broken:
        def __getitem__(self, index):
            ids = torch.tensor([omni.vocabulary.bos, omni.vocabulary.eoi, *omni.vocabulary.encode_text("a")])
            labels = ids.clone()
            labels[0] = -100
            return {"input_ids": ids, "labels": labels, "name": "shard-3:12"}

    with pytest.raises(InputError, match="shard-3:12.*field 'response'"):
        prompt_of(Broken(), 0, omni.vocabulary)
