"""Which drawings of the miniature's steps are right, and who can tell: `python benchmarks/zero.py --help`.

Steps of text-only chains are drawn several times over, each behind gold drawings of the steps before it, and judged
against the gold drawing, which bootstrapping never sees. The first table has the share of steps with a right drawing by
how it was chosen; the second what each filter would do to the drawings that `votes` chooses: how many of the
right ones it keeps (recall), and how many of those it keeps are right (precision).
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
    "agreement": (0.0, 0.02, 0.05),
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
    """A step: its task, the greedy drawing and the others, each with whether it is right."""

    task: str
    greedy: bool
    candidates: list[Candidate]
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
    for row, (task, grid), [first], others in zip(rows, wanted, greedy, drawn, strict=True):
        for each, score in zip(others, perception_scores(others, band, distances), strict=True):
            each.perception, each.changed = score, changed(each.codes, [*row.pictures, *row.drawings])
        right = verdicts(omni, [first, *others], grid)
        out.append(Judged(task, right[0], others, right[1:]))
    for found, agreements in zip(out, step_agreements(rows, drawn, options, likely), strict=True):
        for each, agreement in zip(found.candidates, agreements, strict=True):
            each.agreement = agreement
    if asked.draw_as == "trace":
        for row, found in zip(rows, out, strict=True):
            if len(row.drawings) == len(row.steps) - 1:
                finished = [replace(row, drawings=[*row.drawings, each.image]) for each in found.candidates]
                for each, gain in zip(found.candidates, answer_gains(finished, options, likely), strict=True):
                    each.answer_gain = gain
    return out


def verdicts(omni: Omni, candidates: Sequence[Candidate], grid: np.ndarray) -> list[bool]:
    codes = torch.tensor([one.codes for one in candidates])
    pictures = omni.decode(omni.vocabulary.codes_to_tokens(codes))
    gold = painted(grid)
    return [judge(np.asarray(picture), gold).correct for picture in pictures]


def score_of(step: Judged, place: int, name: str) -> float | None:
    one = step.candidates[place]
    if name == "varied":
        return 1 - commonest(one.codes)
    return getattr(one, name)


def share(values: Sequence[bool]) -> str:
    return f"{sum(values) / len(values):.1%}" if values else "—"


def tables(steps: Sequence[Judged]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    asked = any(one.answer_gain is not None for step in steps for one in step.candidates)
    ways_to = [by for by in CHOOSERS if by != "answer" or asked]
    chosen = {by: [choose(step.candidates, [None] * len(step.right), by) for step in steps] for by in ways_to}
    ways = {"greedy": [step.greedy for step in steps]}
    for by in ways_to:
        ways[by] = [step.right[place or 0] for step, place in zip(steps, chosen[by], strict=True)]
    ways["any of them"] = [any(step.right) for step in steps]
    choosers = []
    for way, right in ways.items():
        by_task = {t: [r for r, step in zip(right, steps, strict=True) if step.task == t] for t in TASK_NAMES}
        choosers.append({"chosen by": way, "all": share(right)} | {t: share(each) for t, each in by_task.items()})
    filters = []
    for name, thresholds in FILTERS.items():
        for least in thresholds:
            kept: list[tuple[str, bool, bool]] = []
            for step, place in zip(steps, chosen["votes"], strict=True):
                score = score_of(step, place or 0, name)
                if score is not None:
                    kept.append((step.task, step.right[place or 0], score >= least))
            if not kept:
                continue
            row: dict[str, Any] = {"filter": f"{name} ≥ {least:.3g}", "kept": share([keep for *_, keep in kept])}
            for task in (None, *TASK_NAMES):
                some = [(right, keep) for t, right, keep in kept if task in (None, t)]
                precision, recall = share([r for r, keep in some if keep]), share([keep for r, keep in some if r])
                row[task or "precision, recall"] = f"{precision}, {recall}"
            filters.append(row)
    return choosers, filters


def main() -> None:
    asked = parse(ZeroOptions, sys.argv[1:], "zero")
    torch.set_num_threads(1)
    run = describe_run(asked, seed=asked.seed)
    steps = judged_steps(omni_r1.load(asked.model_path), asked)
    choosers, filters = tables(steps)
    Path(asked.json_path).parent.mkdir(parents=True, exist_ok=True)
    found = {"run": run, "choosers": choosers, "filters": filters, "steps": [asdict(step) for step in steps]}
    write_atomic(asked.json_path, json.dumps(found) + "\n")
    flags = " ".join(f"--{name.replace('_', '-')} {getattr(asked, name)}" for name in ("rows", "candidates", "draw_as"))
    about = f"{len(steps)} steps, `{flags}`"
    content = f"{about}; {made_with(run)}.\n\n{markdown(choosers)}\n{markdown(filters)}"
    print(content)
    if asked.page:
        put_section(Path(asked.page), asked.section, content)


if __name__ == "__main__":
    main()
