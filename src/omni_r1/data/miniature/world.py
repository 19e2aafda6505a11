"""The miniature world: four tasks of the paper's Uni-Tasks, each solved by drawing, each drawn and judged by rule.

| task    | Uni-Task (paper sec 3)   | picture             | step drawn (Uni-Skill)                            |
|---------|--------------------------|---------------------|---------------------------------------------------|
| scene   | Natural-Scene Perception | things on a meadow  | a box on a thing, moved, then cropped (grounding) |
| chart   | Structured-Image         | a bar chart         | a mark on every taller bar (marking)              |
| diagram | Diagrammatic Math        | a ray among mirrors | the ray drawn until it lands (auxiliary line)     |
| board   | Vision-Operational       | a robot among walls | the board after each move (visual prediction)     |

A picture is a grid of tile numbers (see `tiles`). A thought never says what its drawing shows, so the drawing carries
the reasoning. Training and bench never share a sample: the digest of picture and question decides the side.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from omni_r1.data.miniature.tiles import COLOURS, KINDS, NAMES, NUMBER, SIDE, read
from omni_r1.trajectory import IMAGE_MARK

Grid = np.ndarray  # (8, 8) tile numbers
Cell = tuple[int, int]  # row, column
NAMES_OF_COLOURS = tuple(COLOURS)
MOVES = {"right": (0, 1), "left": (0, -1), "up": (-1, 0), "down": (1, 0)}
SIDES = {"right of": "right", "left of": "left", "above": "up", "below": "down"}  # words of a question, and the move
THINGS = 7  # in a scene
LEVELS = (1, 3, 5, 7)  # heights of bars, in tiles
MOST_UNCHANGED = 60  # of 64 tiles: how much of a drawing must agree with the gold one beside its marks
PICTURE = f" {IMAGE_MARK}"  # the picture follows the question
BENCH_SHARE = 16  # one sample in so many belongs to the bench


@dataclass(frozen=True)
class Step:
    """One step of reasoning: what is said, and the grid of what is drawn."""

    thought: str
    grid: Grid


@dataclass(frozen=True)
class Sample:
    """A question about a picture (`<image>` marks its place), the gold steps and the gold answer."""

    task: str
    question: str
    picture: Grid
    steps: tuple[Step, ...]
    answer: str

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.question.encode() + self.picture.astype(np.uint8).tobytes()).digest()

    @property
    def held_out(self) -> bool:
        """Whether the sample belongs to the bench; all others belong to training."""
        return self.digest[0] % BENCH_SHARE == 0


@dataclass(frozen=True)
class Verdict:
    correct: bool
    reason: str


def inside(cell: Cell) -> bool:
    return 0 <= cell[0] < SIDE and 0 <= cell[1] < SIDE


def shifted(cell: Cell, by: tuple[int, int]) -> Cell:
    return cell[0] + by[0], cell[1] + by[1]


def pick(rng: np.random.Generator, options):
    return options[int(rng.integers(len(options)))]


# --- scene: a box, moved, then cropped --------------------------------------------------------------------------------


def boxed(grid: Grid, cell: Cell) -> Grid:
    out = grid.copy()
    out[cell] = NUMBER[f"{NAMES[grid[cell]]} boxed"]
    return out


def cropped(grid: Grid, cell: Cell) -> Grid:
    """The scene with nothing left but the boxed thing in a cell."""
    out = np.full((SIDE, SIDE), NUMBER["paper"])
    out[cell] = boxed(grid, cell)[cell]
    return out


def box_moved(grid: Grid, move: str) -> Grid:
    """A scene whose box has moved on to the neighbouring thing."""
    row, column = np.argwhere(np.char.endswith(np.array(NAMES)[grid], " boxed"))[0]
    out = grid.copy()
    out[row, column] = NUMBER[NAMES[grid[row, column]].removesuffix(" boxed")]
    return boxed(out, shifted((int(row), int(column)), MOVES[move]))


def scene(rng: np.random.Generator) -> Sample:
    grid = np.where(rng.random((SIDE, SIDE)) < 0.2, NUMBER["tuft"], NUMBER["meadow"])
    while True:
        anchor = (int(rng.integers(SIDE)), int(rng.integers(SIDE)))
        side = pick(rng, list(SIDES))
        target = shifted(anchor, MOVES[SIDES[side]])
        if inside(target):
            break
    # The named thing has neighbours on other sides as well, so that the side counts.
    others = [shifted(anchor, by) for by in MOVES.values()]
    others = [cell for cell in others if inside(cell) and cell != target]
    rng.shuffle(others)
    cells: list[Cell] = [anchor, target, *((int(row), int(column)) for row, column in others[:2])]
    while len(cells) < THINGS:
        extra = (int(rng.integers(SIDE)), int(rng.integers(SIDE)))
        if extra not in cells:
            cells.append(extra)
    kinds = rng.permutation(list(KINDS))[:THINGS]
    for cell, kind in zip(cells, kinds, strict=True):
        grid[cell] = NUMBER[f"{pick(rng, NAMES_OF_COLOURS)} {kind}"]
    ask = pick(rng, ("What colour is the thing {} the {}?", "Name the colour of what is {} the {}."))
    found = boxed(grid, anchor)
    steps = (
        Step(f"A box on the {kinds[0]}.", found),
        Step(f"The box moves {SIDES[side]}.", box_moved(found, SIDES[side])),
        Step("Only the box is kept.", cropped(grid, target)),
    )
    return Sample("scene", ask.format(side, kinds[0]) + PICTURE, grid, steps, NAMES[grid[target]].split(" ")[0])


# --- chart: marks on bars --------------------------------------------------------------------------------------------


def bar_heights(grid: Grid) -> dict[int, int]:
    """Height of each bar in tiles, by column."""
    names = np.array(NAMES)[grid]
    heights = np.char.endswith(names, " bar").sum(0) + np.char.endswith(names, " bar marked").sum(0)
    return {column: int(height) for column, height in enumerate(heights) if height}


def marked(grid: Grid, columns: list[int]) -> Grid:
    """The chart with a mark on the top of the bars in `columns`."""
    out, heights = grid.copy(), bar_heights(grid)
    for column in columns:
        top = (SIDE - 1 - heights[column], column)
        out[top] = NUMBER[f"{NAMES[grid[top]]} marked"]
    return out


def chart_picture(rng: np.random.Generator) -> tuple[Grid, list[str], list[int]]:
    """A chart with six bars: the grid, the colour of each bar from the left, and its column."""
    grid = np.full((SIDE, SIDE), NUMBER["paper"])
    grid[SIDE - 1] = NUMBER["axis"]
    colours = [str(name) for name in rng.permutation(NAMES_OF_COLOURS)]
    columns = sorted(int(column) for column in rng.permutation(SIDE)[: len(colours)])
    for colour, column in zip(colours, columns, strict=True):
        grid[SIDE - 1 - pick(rng, LEVELS) : SIDE - 1, column] = NUMBER[f"{colour} bar"]
    return grid, colours, columns


def chart(rng: np.random.Generator) -> Sample:
    wanted = int(rng.integers(6))
    while True:  # balanced answers: draw charts until the wanted count comes up
        grid, colours, columns = chart_picture(rng)
        colour = pick(rng, colours)
        hits = taller(grid, columns[colours.index(colour)])
        if len(hits) == wanted:
            break
    ask = pick(rng, ("How many bars are taller than the {} bar?", "Count the bars that are taller than the {} bar."))
    step = Step(f"A mark on every bar taller than the {colour} bar.", marked(grid, hits))
    return Sample("chart", ask.format(colour) + PICTURE, grid, (step,), str(wanted))


def taller(grid: Grid, reference: int) -> list[int]:
    """Columns of the bars that are taller than the one in column `reference`."""
    heights = bar_heights(grid)
    return [column for column, height in heights.items() if height > heights[reference]]


# --- diagram: a ray among mirrors ------------------------------------------------------------------------------------


def trace_ray(grid: Grid) -> Grid | None:
    """The diagram with its ray drawn from the source to the target it hits; None where the ray is shut in.

    The ray falls one row at a time on a diagonal. Where the next cell on its diagonal is a stone or outside, it is
    reflected: it stays in its column and turns its sideways direction round.
    """
    out = grid.copy()
    column = next(c for c in range(SIDE) if NAMES[grid[0, c]].startswith("source"))
    step = 1 if NAMES[grid[0, column]].endswith("right") else -1
    for row in range(1, SIDE):
        if inside((row, column + step)) and grid[row, column + step] != NUMBER["stone"]:
            column += step
        else:
            step = -step
        if grid[row, column] == NUMBER["stone"]:
            return None
        if row < SIDE - 1:
            out[row, column] = NUMBER["ray right" if step == 1 else "ray left"]
    out[SIDE - 1, column] = NUMBER[NAMES[grid[SIDE - 1, column]].replace("target", "hit")]
    return out


def diagram(rng: np.random.Generator) -> Sample:
    while True:
        grid = np.where(rng.random((SIDE, SIDE)) < 0.25, NUMBER["stone"], NUMBER["night"])
        grid[0] = NUMBER["night"]
        grid[0, int(rng.integers(SIDE))] = NUMBER[pick(rng, ("source ray right", "source ray left"))]
        targets = [pick(rng, NAMES_OF_COLOURS)]
        while len(targets) < SIDE:  # neighbouring targets differ
            targets.append(pick(rng, [name for name in NAMES_OF_COLOURS if name != targets[-1]]))
        grid[SIDE - 1] = [NUMBER[f"{name} target"] for name in targets]
        drawn = trace_ray(grid)
        if drawn is not None:
            break
    hit = next(NAMES[tile] for tile in drawn[SIDE - 1] if NAMES[tile].endswith("hit"))
    ask = pick(rng, ("Which colour does the ray hit?", "On what colour does the ray land?"))
    step = Step("The ray, drawn until it lands.", drawn)
    return Sample("diagram", ask + PICTURE, grid, (step,), hit.split(" ")[0])


# --- board: the robot moves ------------------------------------------------------------------------------------------


def robot_cell(grid: Grid) -> Cell:
    row, column = np.argwhere(np.char.startswith(np.array(NAMES)[grid], "robot"))[0]
    return int(row), int(column)


def moved(grid: Grid, move: str) -> Grid:
    """The board after one move; a wall stops the robot."""
    here = robot_cell(grid)
    there = shifted(here, MOVES[move])
    if grid[there] == NUMBER["wall"]:
        return grid.copy()
    out = grid.copy()
    out[here] = NUMBER[f"{NAMES[grid[here]].removeprefix('robot on ')} floor"]
    out[there] = NUMBER[f"robot on {NAMES[grid[there]].removesuffix(' floor')}"]
    return out


def board(rng: np.random.Generator) -> Sample:
    floors = [NUMBER[f"{name} floor"] for name in NAMES_OF_COLOURS]
    grid = rng.choice(floors, (SIDE, SIDE))
    grid[rng.random((SIDE, SIDE)) < 0.2] = NUMBER["wall"]
    grid[[0, -1], :] = grid[:, [0, -1]] = NUMBER["wall"]  # all round
    start = tuple(rng.integers(1, SIDE - 1, 2))
    grid[start] = NUMBER[f"robot on {pick(rng, NAMES_OF_COLOURS)}"]
    moves = [pick(rng, list(MOVES)) for _ in range(3)]
    steps, now = [], grid
    for move in moves:
        now = moved(now, move)
        steps.append(Step(f"The robot moves {move}.", now))
    asks = ("The robot moves {}, {}, {}. On which colour is it?", "After {}, {} and {}, what is under the robot?")
    ask = pick(rng, asks)
    answer = NAMES[now[robot_cell(now)]].removeprefix("robot on ")
    return Sample("board", ask.format(*moves) + PICTURE, grid, tuple(steps), answer)


# --- the world -------------------------------------------------------------------------------------------------------

TASKS: dict[str, Callable[[np.random.Generator], Sample]] = {
    "scene": scene,
    "chart": chart,
    "diagram": diagram,
    "board": board,
}
ANSWERS = {"chart": tuple("012345")} | {task: NAMES_OF_COLOURS for task in ("scene", "diagram", "board")}


def sample(task: str, rng: np.random.Generator, held_out: bool = False) -> Sample:
    """One sample of a task, from the bench's side of the world or from training's."""
    while True:
        drawn = TASKS[task](rng)
        if drawn.held_out == held_out:
            return drawn


def marks(grid: Grid) -> frozenset[tuple[Cell, str]]:
    """What a step drew: boxed things, marks on bars, the ray and what it hits, the robot."""
    said = (" boxed", " marked", "ray right", "ray left", " hit", "robot on")
    return frozenset(
        ((int(r), int(c)), NAMES[grid[r, c]])
        for r, c in np.ndindex(SIDE, SIDE)
        if any(word in NAMES[grid[r, c]] for word in said) and not NAMES[grid[r, c]].startswith("source")
    )


def judge(drawn: np.ndarray, gold: np.ndarray) -> Verdict:
    """Judge a drawn step against the gold one: pictures (64, 64, 3) uint8.

    Right means: the same marks in the same cells (the box on the asked thing, the right bars, the right ray, the right
    robot), and at most 4 of the 64 tiles different in all.
    """
    drawn_grid, gold_grid = read(drawn), read(gold)
    have, want = marks(drawn_grid), marks(gold_grid)

    def named(found: frozenset[tuple[Cell, str]]) -> str:
        listed = [f"{name} at row {row + 1}, column {column + 1}" for (row, column), name in sorted(found)]
        return "; ".join(listed[:2]) + (f"; {len(listed) - 2} more" if len(listed) > 2 else "")

    same = int((drawn_grid == gold_grid).sum())
    if have != want:
        parts = [("missing", want - have), ("not wanted", have - want)]
        return Verdict(False, ". ".join(f"{word}: {named(found)}" for word, found in parts if found))
    if same < MOST_UNCHANGED:
        return Verdict(False, f"the right marks, but {SIDE * SIDE - same} of {SIDE * SIDE} tiles differ")
    different = SIDE * SIDE - same
    return Verdict(True, f"{different} tiles differ, none that matters" if different else "")
