"""What the miniature learns from: captioned pictures, gold traces, chains of thought in words alone; and the bench.

    python -m omni_r1.data.miniature.corpus base   CHECKPOINT OUT.jsonl --count 40000
    python -m omni_r1.data.miniature.corpus traces CHECKPOINT OUT.jsonl --count 8000 [--without-drawings] [--readings]
    python -m omni_r1.data.miniature.corpus chains OUT.jsonl --count 8000
    python -m omni_r1.data.miniature.corpus bench  OUT.parquet --count 400

The base corpus teaches drawing and nothing else: a picture, a caption of a change to it, the changed picture; or a
caption and its picture. It has no questions, no answers and no reasoning.
"""

import argparse
import base64
import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as Picture

from omni_r1.data.miniature.tiles import NAMES, SIDE, draw
from omni_r1.data.miniature.world import (
    MOVES,
    TASKS,
    Grid,
    Sample,
    Step,
    bar_heights,
    box_moved,
    boxed,
    chart_picture,
    cropped,
    marked,
    moved,
    pick,
    sample,
    shifted,
    taller,
)
from omni_r1.errors import OmniError
from omni_r1.model import Omni, load
from omni_r1.run_record import progress
from omni_r1.trajectory import Image, Segment, Text, Trajectory, interleave, plain

TASK_NAMES = tuple(TASKS)
# More of what is harder to learn.
BASE_TASKS = ("scene", "chart", "board", "scene", "chart", "board", "scene", "diagram")
NEXT = "\n"
CHUNK = 256  # documents encoded together


def things(grid: Grid) -> list[tuple[int, int]]:
    """Cells of a scene that hold a thing."""
    return [(int(r), int(c)) for r, c in np.ndindex(SIDE, SIDE) if " " in NAMES[grid[r, c]]]


def scene_changes(rng: np.random.Generator, grid: Grid) -> list[Step]:
    """A box on a thing, mostly moved on to a neighbour, and a crop of it."""
    cells = things(grid)
    cell = cells[int(rng.integers(len(cells)))]
    found = boxed(grid, cell)
    steps = [Step(f"A box on the {NAMES[grid[cell]].split(' ')[1]}.", found)]
    moves = [move for move, by in MOVES.items() if shifted(cell, by) in cells]
    if moves:
        move = pick(rng, moves)
        cell = shifted(cell, MOVES[move])
        steps.append(Step(f"The box moves {move}.", box_moved(found, move)))
    return [*steps, Step("Only the box is kept.", cropped(grid, cell))]


def chart_changes(rng: np.random.Generator, grid: Grid) -> list[Step]:
    heights = bar_heights(grid)
    colours = {column: NAMES[grid[SIDE - 2, column]].split(" ")[0] for column in heights}
    reference = pick(rng, list(heights))
    caption = f"A mark on every bar taller than the {colours[reference]} bar."
    return [Step(caption, marked(grid, taller(grid, reference)))]


def board_changes(rng: np.random.Generator, grid: Grid) -> list[Step]:
    steps = []
    for _ in range(3):
        move = pick(rng, list(MOVES))
        grid = moved(grid, move)
        steps.append(Step(f"The robot moves {move}.", grid))
    return steps


def changes(rng: np.random.Generator, task: str) -> tuple[Grid, list[Step]]:
    """A picture and captioned changes to it, one after another.

    Pictures are of training's side of the world, but for charts: those have no side without a question, and there are
    far too many of them for one of the bench to come up (a test regenerates the corpora to be sure).
    """
    if task == "chart":
        grid = chart_picture(rng)[0]
        return grid, chart_changes(rng, grid)
    drawn = sample(task, rng)
    if task == "scene":
        return drawn.picture, scene_changes(rng, drawn.picture)
    if task == "board":
        return drawn.picture, board_changes(rng, drawn.picture)
    return drawn.picture, list(drawn.steps)


def describe(task: str, grid: Grid) -> str:
    """A caption from which the picture's things can be drawn."""
    if task == "scene":
        return "A meadow with " + ", ".join(f"a {NAMES[grid[cell]]}" for cell in things(grid)) + "."
    if task == "chart":
        colours = {column: NAMES[grid[SIDE - 2, column]].split(" ")[0] for column in range(SIDE)}
        bars = [f"{colours[column]} {height}" for column, height in bar_heights(grid).items()]
        return "A chart with bars " + ", ".join(bars) + "."
    return {"diagram": "A ray among mirrors.", "board": "A robot among walls."}[task]


def pictures(rng: np.random.Generator, count: int) -> np.ndarray:
    """Grids (count, 8, 8) of the world, questions' pictures and steps alike."""
    grids: list[Grid] = []
    while len(grids) < count:
        first, steps = changes(rng, pick(rng, list(TASKS)))
        grids += [first, *(step.grid for step in steps)]
    return np.stack(grids[:count])


def captioned(rng: np.random.Generator, task: str) -> tuple[list, list]:
    """One document of the base corpus, prompt and response, as texts and grids.

    Mostly a picture and captioned changes to it; one in twelve is a caption and the picture it describes.
    """
    grid, steps = changes(rng, task)
    if rng.random() < 1 / 12:
        return [], [describe(task, grid), grid]
    response: list = []
    for number, step in enumerate(steps, 1):
        response += [f"{NEXT * (number > 1)}Figure {number}: {step.thought} ", step.grid]
    return [grid, NEXT], response


def reasoning(drawn: Sample, without_drawings: bool) -> list:
    """The gold rationale of a sample, as texts and grids."""
    out: list = []
    for number, step in enumerate(drawn.steps, 1):
        out.append(f"{NEXT * (number > 1)}THOUGHT {number}: {step.thought} ")
        if not without_drawings:
            out.append(step.grid)
    return out


class Encoder:
    """Texts and grids to segments; grids become pictures and go through the VQ's own encoder, in batches."""

    def __init__(self, omni: Omni) -> None:
        self.omni = omni

    def segments(self, documents: Sequence[list]) -> list[list[Segment]]:
        grids = [part for document in documents for part in document if isinstance(part, np.ndarray)]
        pictures = [Picture.fromarray(draw(grid)) for grid in grids]
        codes = iter(self.omni.vocabulary.tokens_to_codes(self.omni.encode(pictures)).tolist())
        return [
            [Text(part) if isinstance(part, str) else Image(tuple(next(codes))) for part in document]
            for document in documents
        ]

    def images(self, grids: Sequence[Grid]) -> list[Image]:
        """One image a grid."""
        return [segment for (segment,) in self.segments([[grid] for grid in grids]) if isinstance(segment, Image)]


def base_rows(omni: Omni, count: int, seed: int) -> Iterator[Trajectory]:
    rng, encoder = np.random.default_rng(seed), Encoder(omni)
    for start in range(0, count, CHUNK):
        pairs = [captioned(rng, BASE_TASKS[(start + k) % len(BASE_TASKS)]) for k in range(min(CHUNK, count - start))]
        prompts = encoder.segments([prompt for prompt, _ in pairs])
        responses = encoder.segments([response for _, response in pairs])
        for prompt, response in zip(prompts, responses, strict=True):
            yield Trajectory(tuple(prompt), tuple(response), ended=True)


def trace_rows(
    omni: Omni, count: int, seed: int, tasks: Sequence[str], without_drawings: bool, readings: bool
) -> Iterator[Trajectory]:
    """Gold traces, the tasks in turn. With `readings` each is followed by its end alone: last drawing and answer."""
    rng, encoder = np.random.default_rng(seed), Encoder(omni)
    for start in range(0, count, CHUNK):
        drawn = [sample(tasks[(start + k) % len(tasks)], rng) for k in range(min(CHUNK, count - start))]
        images = encoder.images([one.picture for one in drawn])
        rationales = encoder.segments([reasoning(one, without_drawings) for one in drawn])
        for one, image, rationale in zip(drawn, images, rationales, strict=True):
            trace = plain(interleave(one.question, [image]), rationale, one.answer)
            yield trace
            if readings:
                yield Trajectory(trace.response[-2:-1], trace.response[-1:], ended=True)


def write_chains(path: Path, count: int, seed: int, tasks: Sequence[str]) -> None:
    """Rows of this project's own format whose rationale is words alone, and the pictures of their questions in a folder
    beside them. With the same seed and tasks they are the samples of `trace_rows`; no gold step is written.
    """
    rng = np.random.default_rng(seed)
    folder = path.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("w") as out, progress(count, "row", "chains") as bar:
        for number in range(count):
            one = sample(tasks[number % len(tasks)], rng)
            name = f"{one.task}-{number:05d}"
            Picture.fromarray(draw(one.picture)).save(folder / f"{name}.png")
            thoughts = (f"THOUGHT {place}: {step.thought}" for place, step in enumerate(one.steps, 1))
            row = {"id": name, "prompt": one.question, "images": [f"{folder.name}/{name}.png"]}
            out.write(json.dumps(row | {"rationale": NEXT.join(thoughts), "answer": one.answer}) + "\n")
            bar.update()


def write_bench(path: Path, count: int, seed: int) -> None:
    """The held-out bench in Omni-Bench's schema (`question`, `image`, `answer`), with `id`, `task` and gold `steps`."""
    rng = np.random.default_rng(seed)
    seen: set[bytes] = set()
    rows: list[dict] = []
    while len(rows) < count:
        one = sample(TASK_NAMES[len(rows) % len(TASK_NAMES)], rng, held_out=True)
        if one.digest in seen:
            continue
        seen.add(one.digest)
        rows.append(
            {
                "id": f"{one.task}-{len(rows) // len(TASK_NAMES):03d}",
                "task": one.task,
                "question": one.question,
                "image": png(one.picture),
                "answer": one.answer,
                "steps": [png(step.grid) for step in one.steps],
            }
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def png(grid: Grid) -> str:
    """A grid's picture as base64 PNG."""
    out = io.BytesIO()
    Picture.fromarray(draw(grid)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    helps = {
        "base": "captioned pictures",
        "traces": "gold reasoning",
        "chains": "its words",
        "bench": "held-out questions",
    }
    for kind, help_text in helps.items():
        one = kinds.add_parser(kind, help=help_text)
        if kind in ("base", "traces"):
            one.add_argument("checkpoint", type=Path, help="checkpoint whose VQ encodes the pictures")
        one.add_argument("out", type=Path)
        one.add_argument("--count", type=int, required=True)
        one.add_argument("--seed", type=int, default=0)
        if kind == "traces":
            one.add_argument("--without-drawings", action="store_true", help="leave the drawn steps out: the control")
            one.add_argument("--readings", action="store_true", help="each trace's last drawing and answer as well")
        if kind in ("traces", "chains"):
            one.add_argument("--tasks", nargs="+", choices=TASK_NAMES, default=TASK_NAMES, help="in turn")
    args = parser.parse_args()
    try:
        write(args)
    except OmniError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def write(args: argparse.Namespace) -> None:
    if args.kind == "bench":
        write_bench(args.out, args.count, args.seed)
        return
    if args.kind == "chains":
        write_chains(args.out, args.count, args.seed, args.tasks)
        return
    omni = load(args.checkpoint)
    rows = (
        base_rows(omni, args.count, args.seed)
        if args.kind == "base"
        else trace_rows(omni, args.count, args.seed, args.tasks, args.without_drawings, args.readings)
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    total = args.count * (2 if args.kind == "traces" and args.readings else 1)
    with args.out.open("w") as out, progress(total, "row", args.kind) as bar:
        for row in rows:
            out.write(json.dumps(row.to_json()) + "\n")
            bar.update()


if __name__ == "__main__":
    sys.exit(main())
