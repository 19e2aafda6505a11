import numpy as np
import pytest

from omni_r1.data.miniature.corpus import captioned, changes
from omni_r1.data.miniature.tiles import NAMES, NUMBER, PIXELS, draw, read
from omni_r1.data.miniature.world import ANSWERS, TASKS, judge, marks, moved, robot_cell, sample, trace_ray


def samples(task: str, count: int, held_out: bool = False):
    rng = np.random.default_rng(7)
    return [sample(task, rng, held_out) for _ in range(count)]


def test_tiles_differ_and_pictures_read_back():
    assert len(np.unique(PIXELS.reshape(len(PIXELS), -1), axis=0)) == len(NAMES)
    grid = np.random.default_rng(0).integers(len(NAMES), size=(8, 8))
    assert (read(draw(grid)) == grid).all()
    noisy = draw(grid).astype(int) + np.random.default_rng(1).integers(-4, 5, size=(64, 64, 3))
    assert (read(noisy.clip(0, 255).astype(np.uint8)) == grid).all()


@pytest.mark.parametrize("task", TASKS)
def test_gold_steps_are_judged_right_and_answers_are_known(task):
    for one in samples(task, 100):
        assert one.answer in ANSWERS[task]
        assert one.question.count("<image>") == 1
        assert all(one.answer not in step.thought for step in one.steps if task != "chart")
        for step in one.steps:
            assert judge(draw(step.grid), draw(step.grid)).correct
        # The picture with nothing drawn on it is no right step, except where there is nothing to draw.
        nothing = marks(one.picture) == marks(one.steps[0].grid)
        assert judge(draw(one.picture), draw(one.steps[0].grid)).correct == nothing


@pytest.mark.parametrize("task", TASKS)
def test_answers_are_spread(task):
    answers = [one.answer for one in samples(task, 400)]
    shares = [answers.count(answer) / len(answers) for answer in ANSWERS[task]]
    assert min(shares) > 0.08 and max(shares) < 0.28


@pytest.mark.parametrize("task", TASKS)
def test_bench_and_training_share_nothing_and_nothing_repeats(task):
    train, bench = samples(task, 1000), samples(task, 100, held_out=True)
    assert not any(one.held_out for one in train) and all(one.held_out for one in bench)
    assert len({one.digest for one in train}) == 1000


def test_judge_names_what_is_wrong():
    one = samples("scene", 1)[0]
    gold = one.steps[0].grid
    wrong = gold.copy()
    cell = tuple(np.argwhere(wrong == NUMBER["meadow"])[0])
    wrong[cell] = NUMBER["red house boxed"]
    verdict = judge(draw(wrong), draw(gold))
    assert not verdict.correct and "red house boxed" in verdict.reason
    spoilt = gold.copy()
    spoilt[np.where(gold == NUMBER["meadow"])] = NUMBER["tuft"]
    verdict = judge(draw(spoilt), draw(gold))
    assert not verdict.correct and "tiles differ" in verdict.reason


def test_ray_is_reflected_by_stones_and_edges():
    grid = np.full((8, 8), NUMBER["night"])
    grid[0, 6], grid[7] = NUMBER["source ray right"], NUMBER["red target"]
    drawn = trace_ray(grid)
    assert drawn is not None
    cells = [int(np.flatnonzero(np.char.startswith(np.array(NAMES)[drawn[row]], "ray"))[0]) for row in range(1, 7)]
    assert cells == [7, 7, 6, 5, 4, 3]  # right to the edge, kept in its column there, then left
    grid[4, 5] = NUMBER["stone"]
    drawn = trace_ray(grid)
    assert drawn is not None and NAMES[drawn[4, 6]] == "ray right"


def test_walls_stop_the_robot():
    grid = np.full((8, 8), NUMBER["green floor"])
    grid[[0, -1], :] = grid[:, [0, -1]] = NUMBER["wall"]
    grid[1, 1], grid[1, 2] = NUMBER["robot on red"], NUMBER["wall"]
    assert robot_cell(moved(grid, "right")) == robot_cell(moved(grid, "up")) == (1, 1)
    down = moved(grid, "down")
    assert NAMES[down[2, 1]] == "robot on green" and NAMES[down[1, 1]] == "red floor"


def test_boards_are_walled_in():
    for one in samples("board", 100):
        assert all((step.grid[[0, -1], :] == NUMBER["wall"]).all() for step in one.steps)
        assert all((step.grid[:, [0, -1]] == NUMBER["wall"]).all() for step in one.steps)


@pytest.mark.parametrize("task", TASKS)
def test_base_corpus_has_no_questions_and_no_answers(task):
    rng = np.random.default_rng(3)
    for _ in range(50):
        texts = [part for side in captioned(rng, task) for part in side if isinstance(part, str)]
        assert not any(word in text for text in texts for word in ("?", "Final Answer", "THOUGHT"))
        assert len(changes(rng, task)[1]) >= 1
