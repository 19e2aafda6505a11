"""A page of a training run: a curve for each figure of its log, alarms, and the answers sampled on the way."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from string import Template
from typing import Any

from omni_r1.files import whole_rows, write_atomic
from omni_r1.run_record import REPORT, RUN
from omni_r1.show.overview import circumstances, options_of
from omni_r1.show.plot import axis, label
from omni_r1.show.records import escape, fingerprint, read_object

LOG, SAMPLES = "log.jsonl", "samples"
HERE = Path(__file__).parent
WIDTH, HEIGHT, TOP = 300, 110, 14  # of a curve, in the units of its drawing
LEFT, RIGHT = 48, 44  # beside it, for its bounds and its last value
SPAN = 10  # rows of a mean: a step has few questions, and some are harder than others

# Heading -> figure of the log -> what it is. What a log does not have is left out.
FIGURES: dict[str, dict[str, str]] = {
    "What it answers": {
        "accuracy": "share of right answers, of all that was sampled",
        "reward": "what advantages are made of",
        "format": "share of well-formed answers",
        "perception": "reward of what was drawn, of answers that draw",
        "images": "drawn in an answer",
        "whole_images": "share of them with all their codes",
        "commonest_code": "share of an image's codes that are the same one",
        "length": "tokens of an answer",
        "length_spread": "their standard deviation",
        "text_length": "tokens of an answer outside images",
        "ended": "share of answers that ended by themselves",
    },
    "What it learns": {
        "loss": "of an update",
        "ce_text": "cross-entropy of text, nats a token",
        "ce_code": "cross-entropy of images, nats a code",
        "mixed_groups": "share of groups whose answers differ in accuracy",
        "learned_groups": "share of the batch that teaches",
        "kl": "divergence from the reference, nats a token as the loss weighs it",
        "entropy": "nats a token, likewise",
        "clip_high": "share of tokens whose ratio is clipped above, likewise",
        "clip_low": "and below",
        "grad_norm": "before it is clipped",
        "learning_rate": "",
    },
    "How it runs": {
        "drift": "mean difference of sampler's and trainer's log-probs, nats a token",
        "seconds/rollout": "to sample a step's answers",
        "seconds/reward": "to score them",
        "seconds/log_probs": "for log-probs of policy and reference",
        "seconds/updates": "to learn from them",
        "tokens_per_second": "that are learned from",
        "padding": "share of places that hold no token",
        "peak_memory_bytes": "",
    },
}


def is_training(run_dir: Path) -> bool:
    return (run_dir / LOG).is_file()


def number(value: float) -> str:
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        return f"{value:.2g}"
    return f"{value:,.3f}".rstrip("0").rstrip(".")


def smooth(values: Sequence[float]) -> list[float]:
    """Of each value and those before it, up to `SPAN` of them, the mean."""
    return [fmean(values[max(0, place + 1 - SPAN) : place + 1]) for place in range(len(values))]


def curve(steps: Sequence[float], values: Sequence[float], alarms: Sequence[float]) -> str:
    """An SVG: the line, its first and last step, its least and greatest value, and a dashed line at each alarm.
    What never changes is a line in the middle.

    Where there are several times `SPAN` values, the line is of their running mean, and they are a pale one behind it.
    """
    least, most = min(values), max(values)
    length = (steps[-1] - steps[0]) or 1.0
    places = [LEFT + WIDTH * (step - steps[0]) / length for step in steps]

    def height(value: float) -> float:
        return TOP + HEIGHT * (1 - (value - least) / (most - least) if most > least else 0.5)

    def line(values: Sequence[float], kind: str) -> str:
        points = " ".join(f"{x:.1f},{height(value):.1f}" for x, value in zip(places, values, strict=True))
        return f'<polyline class="{kind}" points="{points}"/>'

    noisy = len(values) >= 3 * SPAN
    shown = smooth(values) if noisy else values
    x, y = places[-1], height(shown[-1])
    marks = "".join(
        f'<line class="alarm" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{TOP + HEIGHT}"/>'
        for x in (LEFT + WIDTH * (step - steps[0]) / length for step in alarms)
    )
    bottom, end = TOP + HEIGHT, LEFT + WIDTH
    ticks = [(bottom, number(least) if most > least else ""), (TOP, number(most) if most > least else "")]
    return (
        f'<svg viewBox="0 0 {end + RIGHT} {bottom + 18}" role="img" aria-label="from {number(values[0])} to '
        f'{number(shown[-1])}">{axis(LEFT, end, ticks)}{marks}'
        f"{line(values, 'single') if noisy else ''}{line(shown, 'line')}"
        f'<circle class="last" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
        f"{label(round(x + 7, 1), round(y + 4, 1), number(shown[-1]))}"
        f"{label(LEFT, bottom + 15, f'step {number(steps[0])}')}"
        f"{label(end, bottom + 15, number(steps[-1]), 'end')}</svg>"
    )


def curves(rows: Sequence[dict[str, Any]]) -> str:
    alarms = [step_of(row) for row in rows if row.get("alarms")]
    parts = []
    for heading, figures in FIGURES.items():
        drawn = []
        for name, about in figures.items():
            found = [(step_of(row), row[name]) for row in rows if is_number(row.get(name))]
            if found:
                steps, values = zip(*found, strict=True)
                title = f"<h3>{escape(name.replace('_', ' ').replace('/', ': '))}</h3><p>{escape(about)}</p>"
                drawn.append(f"<figure>{title}{curve(steps, values, alarms)}</figure>")
        if drawn:
            parts.append(f'<h2>{heading}</h2><div class="curves">{"".join(drawn)}</div>\n')
    return "".join(parts)


def step_of(row: dict[str, Any]) -> float:
    """PeRPO counts steps of several updates."""
    step = row.get("perpo_step", row.get("step", 0))
    return float(step) if is_number(step) else 0.0


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def sentence(rows: Sequence[dict[str, Any]], run: dict[str, Any]) -> str:
    """What the run is of and what became of it, in words."""
    options = options_of(run)
    named = [escape(Path(str(options[name])).name) for name in ("model_path", "train_data") if options.get(name)]
    parts = [f"{named[0]} learns from {named[1]}."] if len(named) == 2 else []
    if options.get("profile"):
        parts.append(f"Its reward is of profile {escape(str(options['profile']))}.")
    if not rows:
        return " ".join([*parts, "Nothing is logged yet."])
    parts.append(f"{number(step_of(rows[-1]))} steps so far.")
    span = SPAN if len(rows) >= 3 * SPAN else 1
    when = (f"in the first {span} steps", f"in the last {span}") if span > 1 else ("at first", "at last")
    reinforced = any(is_number(row.get("accuracy")) for row in rows)  # the loss of such a run says nothing
    told = {"accuracy": "Answers right", "images": "Images an answer"} if reinforced else {"loss": "Loss"}
    for name, what in told.items():
        found = [row[name] for row in rows if is_number(row.get(name))]
        if found and is_number(rows[0].get(name)) and is_number(rows[-1].get(name)):
            first, last = number(fmean(found[:span])), number(fmean(found[-span:]))
            parts.append(f"{what}: {first} {when[0]}, {last} {when[1]}.")
    return " ".join(parts)


def alarms(rows: Sequence[dict[str, Any]]) -> str:
    """The steps with an alarm, and what it said: neighbours that said the same, numbers aside, in one line."""
    lines: list[tuple[list[float], str]] = []
    for row in rows:
        if not row.get("alarms"):
            continue
        said = str(row.get("alarm", "an alarm"))
        if lines and re.sub(r"[\d.e-]+", "", lines[-1][1]) == re.sub(r"[\d.e-]+", "", said):
            lines[-1][0].append(step_of(row))
        else:
            lines.append(([step_of(row)], said))
    items = "".join(
        f"<li>Step {number(steps[0])}{f' to {number(steps[-1])}, {len(steps)} of them' if len(steps) > 1 else ''}: "
        f"{escape(said)}</li>"
        for steps, said in lines
    )
    return f"<h2>Alarms</h2><p>Each is a dashed line in the curves.</p><ul>{items}</ul>" if items else ""


def page(run_dir: Path, samples: Sequence[Path]) -> str:
    """The page. Raises InputError for a log with a row that is malformed."""
    rows = [row for row in whole_rows(run_dir / LOG) if "train_runtime" not in row]  # the closing row is of no step
    links = "".join(
        f'<a href="{escape(path.relative_to(run_dir).as_posix())}">{escape(path.parent.name)}</a> ' for path in samples
    )
    style = "".join((HERE / name).read_text(encoding="utf-8") for name in ("report.css", "training.css"))
    name, run = run_dir.resolve().name, read_object(run_dir / RUN)
    return Template((HERE / "training.html").read_text(encoding="utf-8")).substitute(
        policy=f"default-src 'none'; style-src {fingerprint(style)}; base-uri 'none'; form-action 'none'",
        style=style,
        name=escape(name),
        title="A training run",
        sentence=sentence(rows, run),
        samples=f"<p>What it answered on the way: {links}</p>" if links else "",
        circumstances=circumstances({}, run),
        curves=alarms(rows) + curves(rows),
    )


def write(run_dir: Path, samples: Sequence[Path]) -> Path:
    """Write report.html into the run's folder; `samples` are the pages of answers that it links to."""
    path = run_dir / REPORT
    write_atomic(path, page(run_dir, samples))
    return path
