"""Which drawings of the miniature's steps are right, and who can tell: `python benchmarks/zero.py --help`.

Steps of text-only chains are drawn several times over, each behind gold drawings of the steps before it, and judged
against the gold drawing, which bootstrapping never sees. The first table has the share of steps with a right drawing by
how it was chosen; the others what each filter would do to the greedy drawings, and to those that `votes` chooses: how
many of the right ones it keeps (recall), and how many of those it keeps are right (precision).
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import made_with
from tables import markdown, put_section

import omni_r1
from omni_r1.data.miniature.corpus import TASK_NAMES, Encoder
from omni_r1.data.miniature.tiles import draw as painted
from omni_r1.data.miniature.world import judge, sample
from omni_r1.files import write_atomic
from omni_r1.generate import TransformersBackend
from omni_r1.model import Omni
from omni_r1.option_parser import option, parse
from omni_r1.perpo.reward import Band
from omni_r1.perpo.reward.perception import code_distances
from omni_r1.run_record import describe_run
from omni_r1.trajectory import interleave
from omni_r1.zero.agreement import Likelihood, answer_gains, step_agreements
from omni_r1.zero.choose import changed, choose, commonest, perception_scores
from omni_r1.zero.draw import Candidate, Traced, draw
from omni_r1.zero.options import BootstrapOptions

CHOOSERS = ("first", "confidence", "votes", "agreement", "answer")
# Score -> thresholds tried; a drawing is kept where its score is no less.
FILTERS: dict[str, tuple[float, ...]] = {
    "varied": (1 / 128, 3 / 128),  # 1 less the share of the commonest code
    "perception": (0.1, 0.5, 0.9),
    "changed": (1 / 128, 3 / 128),
    "confidence": (-0.1, -0.03, -0.01),
    "votes": (0.5, 0.75, 1.0),
    "agreement": (0.0, 1.0, 4.0),
    "answer_gain": (0.0, 1.0, 2.0),
}


@dataclass
class ZeroOptions:
    """Judge the drawings of a model for steps of the miniature's world."""

    model_path: str = option(help="checkpoint that draws")
    draw_as: str = option("caption", help="trace or caption")
    rows: int = option(200, help="questions, the four tasks in turn")
    candidates: int = option(8, help="drawings of a step, beside the greedy one")
    temperature: float = option(1.0, help="sampling temperature")
    guidance_scale: float = option(1.0, help="classifier-free guidance")
    seed: int = option(2, help="seed of the questions")
    batch_size: int = option(64, help="drawings made together")
    json_path: str = option("out/benchmarks/zero.json", help="file for the figures")
    page: str | None = option(None, help="page whose section is to be written anew")
    section: str = option("zero choosers", help="its name")


@dataclass
class Judged:
    """A step: its task, its drawings, the greedy one first, and whether each is right."""

    task: str
    drawn: list[Candidate]
    right: list[bool]


def judged_steps(omni: Omni, asked: ZeroOptions) -> list[Judged]:
    rng, encoder = np.random.default_rng(asked.seed), Encoder(omni)
    samples = [sample(TASK_NAMES[number % len(TASK_NAMES)], rng) for number in range(asked.rows)]
    pictures = encoder.images([one.picture for one in samples])
    gold = [encoder.images([step.grid for step in one.steps]) for one in samples]
    backend, likely = TransformersBackend(omni, asked.batch_size), Likelihood(omni, asked.batch_size)
    codebook = omni.model.model.vqmodel.quantize.embedding.weight.detach()
    band = Band.learn(torch.tensor([picture.codes for picture in pictures]), codebook)
    distances = code_distances(codebook)
    plain = BootstrapOptions("", "jsonl", asked.model_path, "", draw_as=asked.draw_as, seed=asked.seed)  # type: ignore
    options = replace(
        plain,
        do_sample=True,
        candidates=asked.candidates,
        temperature=asked.temperature,
        guidance_scale=asked.guidance_scale,
    )
    rows, wanted = [], []
    for number, (one, picture, steps) in enumerate(zip(samples, pictures, gold, strict=True)):
        thoughts = tuple(step.thought for step in one.steps)
        for place, step in enumerate(one.steps):
            asked_about = tuple(interleave(one.question, [picture]))
            rows.append(Traced(f"{number}", asked_about, thoughts, "", one.answer, drawings=steps[:place]))
            wanted.append((one.task, step.grid))
    greedy, _ = draw(rows, backend, replace(plain, guidance_scale=asked.guidance_scale))
    drawn, _ = draw(rows, backend, options)
    out = []
    both = [first + others for first, others in zip(greedy, drawn, strict=True)]
    for row, (task, grid), candidates in zip(rows, wanted, both, strict=True):
        for each, score in zip(candidates, perception_scores(candidates, band, distances), strict=True):
            each.perception, each.changed = score, changed(each.codes, [*row.pictures, *row.drawings])
        out.append(Judged(task, candidates, verdicts(omni, candidates, grid)))
    for candidates, agreements in zip(both, step_agreements(rows, both, options, likely), strict=True):
        for each, agreement in zip(candidates, agreements, strict=True):
            each.agreement = agreement
    if asked.draw_as == "trace":
        for row, found in zip(rows, out, strict=True):
            if len(row.drawings) == len(row.steps) - 1:
                finished = [replace(row, drawings=[*row.drawings, each.image]) for each in found.drawn]
                for each, gain in zip(found.drawn, answer_gains(finished, options, likely), strict=True):
                    each.answer_gain = gain
    return out


def verdicts(omni: Omni, candidates: Sequence[Candidate], grid: np.ndarray) -> list[bool]:
    codes = torch.tensor([one.codes for one in candidates])
    pictures = omni.decode(omni.vocabulary.codes_to_tokens(codes))
    gold = painted(grid)
    return [judge(np.asarray(picture), gold).correct for picture in pictures]


def score_of(one: Candidate, name: str) -> float | None:
    return 1 - commonest(one.codes) if name == "varied" else getattr(one, name)


def share(values: Sequence[bool]) -> str:
    return f"{sum(values) / len(values):.1%}" if values else "—"


def choosers(steps: Sequence[Judged]) -> tuple[list[dict[str, Any]], list[int]]:
    """Rows of the first table; and of each step the place that `votes` chooses among its drawings."""
    asked = any(one.answer_gain is not None for step in steps for one in step.drawn)
    ways = {"greedy": [0] * len(steps)}
    for by in CHOOSERS:
        if by != "answer" or asked:
            ways[by] = [1 + (choose(step.drawn[1:], [None] * (len(step.drawn) - 1), by) or 0) for step in steps]
    right = {way: [step.right[at] for step, at in zip(steps, places, strict=True)] for way, places in ways.items()}
    right["any of them"] = [any(step.right[1:]) for step in steps]
    out = []
    for way, verdict in right.items():
        by_task = {t: [r for r, step in zip(verdict, steps, strict=True) if step.task == t] for t in TASK_NAMES}
        out.append({"chosen by": way, "all": share(verdict)} | {t: share(each) for t, each in by_task.items()})
    return out, ways["votes"]


def filters(steps: Sequence[Judged], places: Sequence[int], heading: str) -> list[dict[str, Any]]:
    """What each filter does to the drawings at these places. The greedy ones are alone, and have no votes."""
    out = []
    for name, thresholds in FILTERS.items():
        if name == "votes" and not any(places):
            continue
        scored = [(step, at, score_of(step.drawn[at], name)) for step, at in zip(steps, places, strict=True)]
        for least in thresholds:
            kept = [(step.task, step.right[at], score >= least) for step, at, score in scored if score is not None]
            if not kept:
                continue
            row: dict[str, Any] = {heading: f"{name} ≥ {least:.3g}", "kept": share([keep for *_, keep in kept])}
            for task in (None, *TASK_NAMES):
                some = [(right, keep) for t, right, keep in kept if task in (None, t)]
                precision, recall = share([r for r, keep in some if keep]), share([keep for r, keep in some if r])
                row[task or "precision, recall"] = f"{precision}, {recall}"
            out.append(row)
    return out


def main() -> None:
    asked = parse(ZeroOptions, sys.argv[1:], "zero")
    torch.set_num_threads(1)
    run = describe_run(asked, seed=asked.seed)
    steps = judged_steps(omni_r1.load(asked.model_path), asked)
    chosen, voted = choosers(steps)
    tables = [chosen, filters(steps, [0] * len(steps), "greedy drawings"), filters(steps, voted, "chosen by votes")]
    Path(asked.json_path).parent.mkdir(parents=True, exist_ok=True)
    found = {"run": run, "tables": tables, "steps": [asdict(step) for step in steps]}
    write_atomic(asked.json_path, json.dumps(found) + "\n")
    flags = " ".join(f"--{name.replace('_', '-')} {getattr(asked, name)}" for name in ("rows", "candidates", "draw_as"))
    about = f"{len(steps)} steps, `{flags}`"
    content = f"{about}; {made_with(run)}.\n\n" + "\n".join(map(markdown, tables))
    print(content)
    if asked.page:
        put_section(Path(asked.page), asked.section, content)


if __name__ == "__main__":
    main()
