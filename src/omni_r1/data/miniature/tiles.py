"""The tiles the miniature world is drawn with.

Every picture of the world is an 8 x 8 grid of 8 x 8 pixel tiles, so a picture *is* an array of tile numbers. `draw`
turns such a grid into pixels; `read` turns pixels, a model's drawing included, back into the nearest tiles, which is
how drawings are judged by rule.
"""

import numpy as np

SIDE = 8  # tiles along a picture's edge
TILE = 8  # pixels along a tile's edge

COLOURS = {
    "red": (214, 40, 57),
    "orange": (245, 136, 31),
    "yellow": (250, 215, 60),
    "green": (38, 150, 76),
    "blue": (36, 98, 207),
    "purple": (142, 68, 173),
}
MEADOW, TUFT, FRAME = (226, 236, 205), (190, 211, 160), (20, 20, 28)
PAPER, AXIS = (250, 249, 245), (90, 90, 98)
NIGHT, GRID, RAY, STONE = (24, 34, 58), (40, 53, 84), (140, 235, 255), (128, 138, 155)
WALL, MORTAR, ROBOT, EYE = (70, 62, 60), (106, 96, 92), (236, 240, 244), (30, 32, 40)

# Each kind of thing in a scene: a 6 x 6 bitmap, one row per word.
KINDS = {
    "house": "..##.. .####. ###### .####. .#..#. .#..#.",
    "tree": "..##.. .####. ###### ###### ..##.. ..##..",
    "fish": "...... .###.# ###### ###### .###.# ......",
    "star": "..##.. ..##.. ###### .####. .#..#. #....#",
    "heart": "...... .#..#. ###### ###### .####. ..##..",
    "key": "...... .##... #..### #..#.# .##... ......",
    "boat": "...#.. ...##. ...### ...#.. ###### .####.",
    "ring": "..##.. .#..#. #....# #....# .#..#. ..##..",
}


def flat(colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((TILE, TILE, 3), colour, np.uint8)


def icon(kind: str) -> np.ndarray:
    """The bitmap of a kind as a bool array (8, 8), with its one pixel margin."""
    rows = [[mark == "#" for mark in row] for row in KINDS[kind].split()]
    return np.pad(np.array(rows), 1)


def framed(tile: np.ndarray) -> np.ndarray:
    out = tile.copy()
    out[[0, -1], :] = out[:, [0, -1]] = FRAME
    return out


def pale(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    red, green, blue = (int(0.55 * part + 0.45 * 255) for part in colour)
    return red, green, blue


def _paint() -> dict[str, np.ndarray]:
    """Every tile by name, (8, 8, 3) uint8."""
    tiles = {"meadow": flat(MEADOW), "tuft": flat(MEADOW)}
    tiles["tuft"][3:6, [2, 5]] = TUFT
    for kind in KINDS:
        for name, colour in COLOURS.items():
            thing = np.where(icon(kind)[..., None], np.array(colour, np.uint8), flat(MEADOW))
            tiles[f"{name} {kind}"] = thing
            tiles[f"{name} {kind} boxed"] = framed(thing)

    tiles["paper"], tiles["axis"] = flat(PAPER), flat(PAPER)
    tiles["axis"][0:2] = AXIS
    for name, colour in COLOURS.items():
        bar = flat(PAPER)
        bar[:, 1:7] = colour
        tiles[f"{name} bar"], tiles[f"{name} bar marked"] = bar, bar.copy()
        for row in range(4):  # a notch in the bar's top
            tiles[f"{name} bar marked"][row, row : TILE - row] = FRAME

    tiles["night"] = flat(NIGHT)
    tiles["night"][0, :] = tiles["night"][:, 0] = GRID
    tiles["stone"] = flat(STONE)
    tiles["stone"][1:7, 1:7] = (100, 108, 124)
    slope = np.eye(TILE, dtype=bool)
    slope |= np.eye(TILE, k=1, dtype=bool)
    for name, line in (("ray right", slope), ("ray left", slope[:, ::-1])):
        tiles[name] = np.where(line[..., None], np.array(RAY, np.uint8), tiles["night"])
        tiles[f"source {name}"] = tiles[name].copy()
        tiles[f"source {name}"][0:4, 2:6] = (255, 244, 160)
    for name, colour in COLOURS.items():
        tiles[f"{name} target"] = flat(NIGHT)
        tiles[f"{name} target"][2:8, 1:7] = colour
        tiles[f"{name} hit"] = flat(RAY)
        tiles[f"{name} hit"][2:8, 1:7] = colour

    tiles["wall"] = flat(WALL)
    tiles["wall"][[0, 4], :] = tiles["wall"][0:4, 3] = tiles["wall"][4:8, 6] = MORTAR
    for name, colour in COLOURS.items():
        floor = flat(pale(colour))
        floor[[0, -1], :] = floor[:, [0, -1]] = colour
        tiles[f"{name} floor"], tiles[f"robot on {name}"] = floor, floor.copy()
        tiles[f"robot on {name}"][1:7, 2:6] = ROBOT
        tiles[f"robot on {name}"][3:6, 1:7] = ROBOT
        tiles[f"robot on {name}"][2, [3, 4]] = EYE
        tiles[f"robot on {name}"][5, 2:6] = EYE
    return tiles


_TILES = _paint()
NAMES: tuple[str, ...] = tuple(_TILES)
NUMBER: dict[str, int] = {name: number for number, name in enumerate(NAMES)}
PIXELS: np.ndarray = np.stack(list(_TILES.values()))  # (tiles, 8, 8, 3) uint8


def draw(grid: np.ndarray) -> np.ndarray:
    """The picture of a grid of tile numbers: (8, 8) int -> (64, 64, 3) uint8."""
    side = SIDE * TILE
    return PIXELS[grid].transpose(0, 2, 1, 3, 4).reshape(side, side, 3)


def read(picture: np.ndarray) -> np.ndarray:
    """The nearest tiles of a picture: (64, 64, 3) uint8 -> (8, 8) tile numbers, by squared pixel distance."""
    patches = picture.reshape(SIDE, TILE, SIDE, TILE, 3).transpose(0, 2, 1, 3, 4).reshape(SIDE * SIDE, -1)
    patches, tiles = patches.astype(np.float32), PIXELS.reshape(len(PIXELS), -1).astype(np.float32)
    distance = (tiles**2).sum(1) - 2 * patches @ tiles.T  # the patch's own square is the same for every tile
    return distance.argmin(1).reshape(SIDE, SIDE)
