"""A run folder as the bench leaves it, with pictures drawn here: what the report is tested with."""

import json
import random
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

TASKS = {"scene": 2, "chart": 1, "diagram": 1, "board": 3}  # steps drawn
COLOURS = ("#d62839", "#f5881f", "#fad73c", "#26964c", "#2462cf", "#8e44ad")
NAMES = ("red", "orange", "yellow", "green", "blue", "purple")
GROUNDS = {"scene": "#e2eccd", "chart": "#faf9f5", "diagram": "#18223a", "board": "#f2d9dc"}
QUESTIONS = {
    "scene": "What colour is the thing right of the thing above the key? <image>",
    "chart": "How many bars are taller than the blue bar? <image>",
    "diagram": "On what colour does the ray land? <image>",
    "board": "The robot moves up, left, down. On which colour is it? <image>",
}
THOUGHTS = {
    "scene": ("A box on the thing above the key.", "A close look right of the box."),
    "chart": ("A mark under every taller bar.",),
    "diagram": ("The ray, drawn until it lands.",),
    "board": ("The robot moves up.", "The robot moves left.", "The robot moves down."),
}
WRONG = "missing: red house boxed at row 3, column 4. not wanted: green tree boxed at row 6, column 1"


def picture(rng: random.Random, task: str, steps: int = 0, size: int = 64) -> Image.Image:
    """A picture of a task, with so many steps drawn into it."""
    image = Image.new("RGB", (64, 64), GROUNDS[task])
    pen = ImageDraw.Draw(image)
    if task == "chart":
        for column in range(1, 7):
            pen.rectangle((8 * column, 54 - 4 * rng.randint(1, 10), 8 * column + 5, 55), fill=rng.choice(COLOURS))
    for _ in range(0 if task == "chart" else 12):
        x, y = 8 * rng.randrange(8), 8 * rng.randrange(8)
        shape = pen.ellipse if rng.random() < 0.5 else pen.rectangle
        shape((x + 1, y + 1, x + 6, y + 6), fill=rng.choice(COLOURS))
    for _ in range(steps):
        x, y = 8 * rng.randrange(8), 8 * rng.randrange(8)
        if task == "diagram":
            pen.line((x, 0, 32, 32, 63 - x, 63), fill="#8cebff", width=2)
        else:
            pen.rectangle((x, y, x + 7, y + 7), outline="#14141c", width=1)
    return image.resize((size, size), Image.Resampling.NEAREST)


def record(folder: Path, number: int, rng: random.Random, size: int) -> dict[str, Any]:
    task = tuple(TASKS)[number % 4]

    def stored(name: str, steps: int) -> str:
        path = f"images/{number}-{name}.png"
        picture(random.Random(number), task, steps, size).save(folder / path)
        return path

    drawn = TASKS[task] - (rng.random() < 0.05)
    segments: list[dict[str, Any]] = []
    good = True
    for step in range(drawn):
        good = good and rng.random() < 0.85
        verdict = {"correct": good, "reason": "" if good else WRONG}
        segments.append({"text": THOUGHTS[task][step] + "\n"})
        segments.append({"image": stored(f"drawn-{step}", step + 1 if good else step), "step": verdict})
    gold, other = rng.sample(NAMES, 2)
    right = good and drawn == TASKS[task] and rng.random() < 0.95
    answer = gold if right else other
    segments.append({"text": f"\nFinal Answer: {answer}"})
    control = rng.choice(NAMES)
    return {
        "id": f"{task}-{number:04}", "status": "ok", "error": None, "task": task, "question": QUESTIONS[task],
        "question_images": [stored("question-0", 0)], "segments": segments, "answer": answer, "gold": gold,
        "gold_images": [stored(f"gold-{step}", step + 1) for step in range(TASKS[task])], "correct": right,
        "reason": "the same words" if right else f"{answer!r} is not {gold!r}", "valid": True,
        "judged": True, "images_whole": [True] * drawn, "stop": "end", "tokens": 66 * drawn + 30,
        "logprob": -rng.random() * 9, "seed": number, "control": {"answer": control, "correct": control == gold},
    }  # fmt: skip


def failed(number: int) -> dict[str, Any]:
    return {
        "id": f"row {number + 1}", "status": "error", "error": f"bench.parquet:{number + 1}: is no image",
        "task": tuple(TASKS)[number % 4], "question": "", "question_images": [], "segments": [], "answer": None,
        "gold": "red", "gold_images": [], "correct": None, "reason": "", "valid": None, "images_whole": [],
        "stop": None, "tokens": 0, "logprob": 0.0, "seed": number, "control": None,
    }  # fmt: skip


def summary_of(records: list[dict[str, Any]]) -> dict[str, Any]:
    groups = {"overall": records} | {task: [r for r in records if r["task"] == task] for task in TASKS}
    groups = {name: rows for name, rows in groups.items() if rows}

    def shares(hits) -> dict[str, float]:
        return {name: sum(map(hits, rows)) / len(rows) for name, rows in groups.items()}

    def around(figures: dict[str, float]) -> dict[str, list[float]]:
        return {name: [max(0.0, figure - 0.06), min(1.0, figure + 0.05)] for name, figure in figures.items()}

    accuracy = shares(lambda r: bool(r["correct"]))
    control = shares(lambda r: bool(r["control"] and r["control"]["correct"]))
    return {
        "suite": "miniature", "accuracy": accuracy, "interval": around(accuracy),
        "step_accuracy": shares(lambda r: all(s["step"]["correct"] for s in r["segments"] if "image" in s)),
        "valid_images": shares(lambda r: True), "count": {name: len(rows) for name, rows in groups.items()},
        "failed": {name: sum(r["status"] == "error" for r in rows) for name, rows in groups.items()},
        "chance": dict.fromkeys(groups, 0.19), "control_accuracy": control, "control_interval": around(control),
        "tokens_per_second": 1234.5, "seconds": 61.2,
    }  # fmt: skip


RUN = {
    "options": {"model_path": "miniature", "data": "miniature", "mode": "interleaved", "batch_size": 100},
    "seed": 0, "started": "2026-01-02T03:04:05+00:00", "commit": "0123456789abcdef0123456789abcdef01234567",
    "python": "3.11.7", "versions": {"torch": "2.13.0"}, "machine": "Linux x86_64, 2 CPUs",
}  # fmt: skip


def write_rows(folder: Path, rows: list[dict[str, Any]]) -> Path:
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def fake_run(folder: Path, rows: int = 12, size: int = 64) -> Path:
    """A graded run; every eleventh row failed."""
    (folder / "images").mkdir(parents=True)
    rng = random.Random(5)
    records = [failed(n) if n % 11 == 10 else record(folder, n, rng, size) for n in range(rows)]
    (folder / "summary.json").write_text(json.dumps(summary_of(records)))
    (folder / "run.json").write_text(json.dumps(RUN))
    return write_rows(folder, records)
