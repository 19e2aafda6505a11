"""One question of a run as a comic strip: picture, thought over drawing for each step, answer."""

from collections.abc import Sequence
from typing import Any

from omni_r1.bench.statistics import outcome
from omni_r1.show.records import Pictures, escape
from omni_r1.trajectory import FINAL_ANSWER, IMAGE_MARK, TAGS, split_tags

CAPTION = 180  # letters up to which a thought stands over its drawing; a longer one gets a panel of its own
WIDE, FULL = 320, 1200  # letters from which such a panel takes two columns, or the whole width
VERDICTS = {"right": "✓", "wrong": "✗", "no_answer": "✗", "unparsed": "✗", "ungraded": "?", "failed": "!"}
TAG_NAMES = {tag: name.replace("_open", " ⟨").replace("_close", " ⟩") for name, tag in TAGS._asdict().items()}


def verdict_of(record: dict[str, Any]) -> str:
    """What became of the answer (`VERDICTS`), or `answered` where nobody graded it.

    A graded record has a verdict of its own, or only the rules', where the judge's counts and is missing.
    """
    graded = record.get("correct") is not None or record.get("rule") or record.get("status") == "error"
    return outcome(record) if graded else "answered"


def told(verdict: str) -> str:
    """A verdict in words."""
    return verdict.replace("_", " ")


def undrawn(record: dict[str, Any]) -> int:
    """How many gold steps have no drawing."""
    drawn = sum("image" in segment for segment in record["segments"])
    return max(0, len(record["gold_images"]) - drawn) if record.get("judged") else 0


def drawings_verdict(record: dict[str, Any]) -> str:
    """`right`, `wrong` (one of them is, or is missing), or nothing where no step was judged."""
    verdicts = [segment["step"]["correct"] for segment in record["segments"] if segment.get("step")]
    if undrawn(record) or not all(verdicts):
        return "wrong"
    return "right" if verdicts else ""


def mark(verdict: str) -> str:
    return f'<span class="mark {verdict}" aria-hidden="true">{VERDICTS[verdict]}</span>' if verdict in VERDICTS else ""


def prose(text: str) -> str:
    """A model's words, line breaks kept, its tags told apart from them."""
    pieces = (
        f'<span class="tag" title="{escape(piece)}">{TAG_NAMES[piece]}</span>' if piece in TAG_NAMES else escape(piece)
        for piece in split_tags(text)
    )
    return f'<p class="prose" dir="auto">{"".join(pieces)}</p>'


def panel(kind: str, caption: str, middle: str, note: str = "") -> str:
    return f'<li class="panel {kind}"><div class="caption">{caption}</div>{middle}<div class="note">{note}</div></li>'


def words(text: str) -> str:
    """A panel that only says something."""
    size = " full" if len(text) > FULL else " wide" if len(text) > WIDE else ""
    return f'<li class="panel words{size}">{prose(text)}</li>'


def drawing(said: str, segment: dict[str, Any], number: int, pictures: Pictures) -> str:
    picture = pictures.html(segment["image"], f"drawing {number}")
    if not segment.get("step"):
        return panel("step", prose(said) if said else "", picture, f"Drawing {number}")
    verdict = "right" if segment["step"]["correct"] else "wrong"
    reason = segment["step"].get("reason")
    note = f"{mark(verdict)}<b>Step {number} {verdict}</b>{': ' + escape(reason) if reason else ''}"
    return panel(f"step {verdict}", prose(said) if said else "", picture, note)


def opinion(who: str, said: dict[str, Any]) -> str:
    """Where a judge was asked beside the rules: what either says."""
    verdict = "right" if said.get("correct") is True else "wrong" if said.get("correct") is False else "no verdict"
    return f"<p>{mark(verdict)}{who}: <b>{verdict}</b>, {escape(said.get('reason'))}</p>"


def answer_panel(record: dict[str, Any]) -> str:
    """The answer, and below it its verdict, the gold answer, the control's, and what rules and judge say."""
    answer = record.get("answer")
    gold, control, reason, verdict = record.get("gold"), record.get("control"), record.get("reason"), verdict_of(record)
    if answer is None and gold is None:
        return ""
    size = "" if len(answer or "") <= 12 else " long" if len(answer or "") <= 60 else " prose"
    middle = f'<div class="answer{size}" dir="auto">{escape(answer) if answer else "<i>no answer</i>"}</div>'
    said = "No answer" if verdict == "no_answer" else f"Answer {verdict}"
    note = f"{mark(verdict)}<b>{said}</b>" if verdict in VERDICTS else ""
    rewarded = record.get("reward") is not None  # a sample of training: there even a right answer has reasons
    if reason and (rewarded or not (verdict == "right" and answer == gold or reason == said.lower())):
        note += f"{': ' if note else ''}{escape(reason)}"
    if rewarded:
        note += f"<p>Reward: <b>{record['reward']:.3f}</b></p>"
    if gold is not None and verdict != "right":
        note += f"<p>Gold answer: <b>{escape(gold)}</b></p>"
    if control:
        right = "right" if control.get("correct") else "wrong"
        said = escape(control["answer"]) if control.get("answer") else "no answer"
        note += f"<p>{mark(right)}Text-only control: <b>{said}</b></p>"
    if record.get("judge"):
        note += opinion("Rules", record.get("rule") or {}) + opinion("Judge", record["judge"])
    return panel(f"final {verdict}", FINAL_ANSWER, middle, note)


def given(record: dict[str, Any], pictures: Pictures) -> list[str]:
    """Panels of the question's pictures."""
    panels = []
    for number, path in enumerate(record["question_images"], 1):
        caption = "The picture" if len(record["question_images"]) == 1 else f"Picture {number}"
        panels.append(panel("given", caption, pictures.html(path, f"picture {number}")))
    return panels


def answered(record: dict[str, Any], pictures: Pictures) -> list[str]:
    """Panels of what the model thought, drew and answered."""
    panels: list[str] = []
    said, number = "", 0  # said: a thought that waits for its drawing
    for segment in record["segments"]:
        if "text" in segment:
            panels += [words(said)] if said else []
            said = segment["text"].strip()
            continue
        if len(said) > CAPTION:
            panels.append(words(said))
            said = ""
        number += 1
        panels.append(drawing(said, segment, number, pictures))
        said = ""
    said = said.removesuffix(f"{FINAL_ANSWER} {record.get('answer')}").rstrip()  # the last panel says it
    panels += [words(said)] if said else []
    if missing := undrawn(record):
        what = f"Step {number + 1}" if missing == 1 else f"Steps {number + 1} to {number + missing}"
        note = f"{mark('wrong')}<b>{what} missing</b>"
        panels.append(panel("step wrong", "", '<div class="undrawn">not drawn</div>', note))
    panels.append(answer_panel(record))
    return panels


def strip(panels: Sequence[str]) -> str:
    return f'<ol class="strip">{"".join(panels)}</ol>'


def failure(record: dict[str, Any]) -> str:
    return f'<p class="error"><b>Failed.</b> {escape(record.get("error") or "")}</p>'


def gold_steps(record: dict[str, Any], pictures: Pictures) -> str:
    """What should have been drawn, folded; in the strip's columns, so that each stands below its drawing."""
    if not record["gold_images"]:
        return ""
    panels = ['<li class="panel words"></li>' for _ in record["question_images"]]
    for number, path in enumerate(record["gold_images"], 1):
        panels.append(panel("step", "", pictures.html(path, f"gold drawing {number}"), f"Gold step {number}"))
    count = len(record["gold_images"])
    title = "What should have been drawn" if count == 1 else f"What should have been drawn, in {count} steps"
    return f'<details><summary>{title}</summary><ol class="strip">{"".join(panels)}</ol></details>'


def question(record: dict[str, Any]) -> str:
    """The question; marks of pictures become their numbers, a single one at either end is left out."""
    text = (record.get("question") or "").strip()
    if len(record["question_images"]) == 1:
        text = text.removeprefix(IMAGE_MARK).removesuffix(IMAGE_MARK).strip()
    first, *rest = text.split(IMAGE_MARK)
    marked = (f'<span class="tag">picture {number}</span>{escape(piece)}' for number, piece in enumerate(rest, 1))
    return escape(first) + "".join(marked)


def facts(record: dict[str, Any]) -> str:
    listed = []
    if record.get("stop") == "length":
        listed.append("<b>cut off at the token limit</b>")
    if record.get("valid") is False:
        listed.append("<b>a drawing came out incomplete</b>")
    if record.get("tokens"):
        listed.append(f"{record['tokens']} tokens")
        if record.get("logprob") is not None:
            listed.append(f"log-probability {record['logprob']:.2f}")
    if record.get("sample"):
        listed.append(f"sample {record['sample'] + 1}")
    if record.get("seed") is not None:
        listed.append(f"seed {record['seed']}")
    return " · ".join(listed)


def article(number: int, record: dict[str, Any], pictures: Pictures) -> str:
    """The row `number` (from 1) of a page."""
    verdict, task = verdict_of(record), record.get("task") or ""
    name = escape(record.get("id") or f"row {number}")
    failed = failure(record) if verdict == "failed" else ""
    return (
        f'<article class="row {verdict}" id="r{number}" data-task="{escape(task)}" data-verdict="{verdict}" '
        f'data-steps="{drawings_verdict(record)}">'
        f'<header><a href="#r{number}">{name}</a>{f"<span>{escape(task)}</span>" if task else ""}'
        f"<span>{facts(record)}</span>"
        f"{f'<span class={verdict}>{mark(verdict)}{told(verdict)}</span>' if verdict in VERDICTS else ''}</header>"
        f'<h2 dir="auto">{question(record)}</h2>{failed}'
        f"{strip([*given(record, pictures), *answered(record, pictures)])}{gold_steps(record, pictures)}</article>\n"
    )
