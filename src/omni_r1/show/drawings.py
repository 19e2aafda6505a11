"""A page of what bootstrapping drew: what became of the rows, and the drawings it took and those it did not."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from string import Template
from typing import Any

import torch

from omni_r1.data.shards import MANIFEST
from omni_r1.data.token_folder import LOG, MADE_OF, REJECTS
from omni_r1.errors import InputError, OmniError
from omni_r1.files import whole_rows, write_atomic
from omni_r1.model import Omni, checkpoint, load
from omni_r1.model.vq import digest
from omni_r1.run_record import DRAWINGS, REPORT, RUN
from omni_r1.show.overview import circumstances, html_table, options_of
from omni_r1.show.records import as_data, escape, fingerprint, read_object
from omni_r1.show.strip import panel, prose
from omni_r1.show.table import Cell, Table
from omni_r1.trajectory import IMAGE_MARK

HERE = Path(__file__).parent
SHOWN = 60  # rows of a heading
WIDTH = 128  # pixels for a drawing
Row = tuple[dict[str, Any], list[dict[str, Any]]]  # the row's first line, which has its question; the lines to show


class Sheet:
    """Pictures of the drawings of some steps, by the VQ of the checkpoint that drew them."""

    def __init__(self, omni: Omni) -> None:
        self.omni = omni

    def picture(self, codes: list[int], about: str) -> str:
        ids = self.omni.vocabulary.codes_to_tokens(torch.tensor([codes]))
        return as_data(self.omni.decode(ids)[0], about, WIDTH)

    def step(self, lines: Sequence[dict[str, Any]]) -> str:
        """The drawings of one step below each other, its words above them."""
        first = lines[0]
        drawn = "".join(map(self.drawing, lines))
        return panel("", prose(f"{first['step']}. {first['words']}"), f'<div class="candidates">{drawn}</div>')

    def drawing(self, line: dict[str, Any]) -> str:
        """A drawing and what it scored. That another was taken is no fault."""
        scores = "".join(
            f"<div><dt>{escape(k)}</dt><dd>{float(v) + 0:.3g}</dd></div>"  # -0.0 + 0 is 0
            for k, v in line["scores"].items()
        )
        reason = line.get("reason") or ("taken" if line.get("taken") else "another was taken")
        verdict = "wrong" if line.get("reason") else "right" if line.get("taken") else "other"
        picture = self.picture(line["codes"], f"drawing of step {line['step']}")
        note = f'<div class="note"><b>{escape(reason)}</b><dl class="scores">{scores}</dl></div>'
        return f'<div class="candidate {verdict}">{picture}{note}</div>'

    def row(self, question: dict[str, Any], lines: Sequence[dict[str, Any]]) -> str:
        """A row's question and drawings of its steps. Raises InputError where a line is not of this checkpoint."""
        try:
            given = [
                panel("given", "The picture, as the model sees it", self.picture(codes, "picture of the question"))
                for codes in question["pictures"]
            ]
            panels = "".join(given)
            panels += "".join(self.step(list(group)) for _, group in groupby(lines, key=itemgetter("step")))
            panels += panel("", prose(said), "") if (said := question.get("conclusion")) else ""
            asked, answer = escape(question["question"].replace(IMAGE_MARK, " ").strip()), escape(question["answer"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"is no drawing: {error!r}", field=str(question.get("id"))) from error
        header = f"<header>{escape(question['id'])}<span>gold answer {answer}</span></header>"
        return f'<article class="row">{header}<h2 dir="auto">{asked}</h2><ol class="strip">{panels}</ol></article>'

    def rows(self, title: str, about: str, rows: Sequence[Row]) -> str:
        if not rows:
            return ""
        of = f", the first {SHOWN} shown" if len(rows) > SHOWN else ""
        articles = "".join(self.row(*row) for row in rows[:SHOWN])
        return f"<h2>{escape(title)}</h2><p>{escape(about)} Rows: {len(rows):,}{of}.</p>{articles}"


def counted(wrote: int, reasons: Counter[str]) -> str:
    rows = [("rows read", wrote + reasons.total()), ("rows written", wrote)]
    rows += [(f"dropped: {reason}", count) for reason, count in reasons.most_common()]
    cells = "".join(f"<tr><th scope=row>{escape(name)}</th><td>{count:,}</td></tr>" for name, count in rows)
    return f'<div class="figures"><table><tbody>{cells}</tbody></table></div>'


def listed(rejects: Sequence[dict[str, Any]]) -> str:
    """Rows that were dropped before anything was drawn for them, and why."""
    if not rejects:
        return ""
    of = f" The first {SHOWN} of {len(rejects):,}; {REJECTS} has all." if len(rejects) > SHOWN else ""
    title, keys = "Dropped undrawn", ["file", "row", "field", "reason", "message"]
    rows = [(str(reject["id"]), [Cell(str(reject.get(key) or "")) for key in keys]) for reject in rejects[:SHOWN]]
    table = html_table(Table(title, "id", keys, rows))
    return f'<h2>{title}</h2><p>Nothing was drawn for these rows.{of}</p><div class="rejects">{table}</div>'


def page(run_dir: Path, model_path: str | None = None) -> str:
    """`model_path`: the checkpoint that drew, None for where it lay then.

    Raises InputError naming a file that is missing or damaged, or where the checkpoint is not found or is another.
    """
    run, manifest = read_object(run_dir / RUN), read_object(run_dir / MANIFEST)
    log = list(whole_rows(run_dir / LOG))
    rejects = [reject for line in log for reject in line["rejects"]]
    # Of rows of one id only the first is drawn: its reason is the one.
    reasons = {str(reject["id"]): str(reject["reason"]) for reject in reversed(rejects)}
    wrote = sum(line["rows"] for line in log)
    by_row: dict[str, list[dict[str, Any]]] = {}
    for file in sorted((run_dir / DRAWINGS).glob("*.jsonl")):
        for line in whole_rows(file):
            by_row.setdefault(str(line.get("id")), []).append(line)
    sheet = Sheet(eyes_of(run, manifest, model_path))
    written, passed_over, dropped = list[Row](), list[Row](), dict[str, list[Row]]()
    for name, lines in by_row.items():
        first = lines[0]
        if not first.get("written"):
            dropped.setdefault(reasons.get(name, "dropped"), []).append((first, lines))
            continue
        written.append((first, [line for line in lines if line.get("taken")]))
        if faults := [line for line in lines if line.get("reason")]:
            passed_over.append((first, faults))
    kept = sheet.rows("Written", "What a model is trained on: the drawings taken.", written)
    undrawn = [reject for reject in rejects if str(reject["id"]) not in by_row]
    parts = [sheet.rows(f"Dropped: {reason}", "All drawings of each row.", rows) for reason, rows in dropped.items()]
    parts.append(sheet.rows("Passed over", "Drawings that a filter held back, of rows that were written.", passed_over))
    parts.append(listed(undrawn))
    styles = ("report.css", "drawings.css")
    style = "".join((HERE / name).read_text(encoding="utf-8") for name in styles)
    checked = manifest.get("validated")
    if checked:
        passed = f"{checked['passed']:,} of {checked['rows']:,} passed when they were looked through again."
    elif not wrote and (run_dir / REJECTS).exists():  # listed at the end, when all was read
        passed = "<b>It ended with every row dropped</b>: there is nothing to train on."
    else:
        passed = "<b>It is not finished</b>: nothing was looked through again."
    drawn = Counter(str(line.get("reason") or "sound") for lines in by_row.values() for line in lines)
    said = ", ".join(f"{reason} {count:,}" for reason, count in drawn.most_common())
    return Template((HERE / "training.html").read_text(encoding="utf-8")).substitute(
        policy=f"default-src 'none'; img-src data:; style-src {fingerprint(style)}; "
        "base-uri 'none'; form-action 'none'",
        style=style,
        name=escape(run_dir.resolve().name),
        title="What was drawn for chains of thought",
        sentence=f"{wrote:,} of {wrote + len(rejects):,} rows have a drawing for each step and were written. {passed} "
        f"Drawings: {escape(said or 'none')}.",
        samples=counted(wrote, Counter(reject["reason"] for reject in rejects)),
        circumstances=circumstances({}, run),
        curves=kept + "".join(parts),
    )


def eyes_of(run: dict[str, Any], manifest: dict[str, Any], model_path: str | None) -> Omni:
    """The VQ that the codes of a run are of."""
    place = model_path or str(options_of(run).get("model_path"))
    try:
        omni = load(place, language_model=False)
    except OmniError as error:
        if model_path is not None:
            raise
        reason = f"say where the checkpoint is that drew; it cannot be loaded from where it was: {error}"
        raise InputError(reason, field="model_path") from error
    if "vq" in manifest:
        same = manifest["vq"] == digest(omni.model.model.vqmodel)
    else:  # not finished, or nothing written
        same = run.get(MADE_OF, {}).get("checkpoint") in (None, checkpoint.weight_sums(place))
    if not same:
        raise InputError("its VQ is not the one that drew", file=place, field="model_path")
    return omni


def write(run_dir: Path, model_path: str | None = None) -> Path:
    """Write report.html into a bootstrapped folder. Raises as `page` does."""
    path = run_dir / REPORT
    write_atomic(path, page(run_dir, model_path))
    return path
