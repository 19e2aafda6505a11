"""A page of what bootstrapping drew: what became of the rows, and the drawings it took and those it did not."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template
from typing import Any

import torch

from omni_r1.data.token_folder import LOG, REJECTS
from omni_r1.errors import InputError
from omni_r1.files import read_jsonl, write_atomic
from omni_r1.model import Omni, load
from omni_r1.run_record import REPORT, RUN
from omni_r1.show.overview import circumstances, options_of
from omni_r1.show.records import as_data, escape, fingerprint, read_object
from omni_r1.show.strip import panel, prose

DRAWINGS, MANIFEST = "drawings", "manifest.json"
HERE = Path(__file__).parent
SHOWN = 60  # rows of a heading
WIDTH = 128  # pixels for a drawing


def is_bootstrapped(run_dir: Path) -> bool:
    return (run_dir / DRAWINGS).is_dir() and (run_dir / LOG).is_file()


def read_lines(file: Path) -> Iterable[dict[str, Any]]:
    """The rows of a file that this project wrote. Raises InputError for one that is damaged."""
    for _, row in read_jsonl(file):
        if isinstance(row, InputError):
            raise row
        yield row


class Sheet:
    """Pictures of the drawings of some steps, by the VQ of the checkpoint that drew them."""

    def __init__(self, omni: Omni) -> None:
        self.omni = omni

    def html(self, line: dict[str, Any]) -> str:
        """A drawing, its words above it, and what it scored below. Raises InputError where it is no drawing of this
        checkpoint."""
        try:
            codes = torch.tensor([line["codes"]])
            [picture] = self.omni.decode(self.omni.vocabulary.codes_to_tokens(codes))
            scores = "".join(
                f"<div><dt>{escape(k)}</dt><dd>{float(v):.3g}</dd></div>" for k, v in line["scores"].items()
            )
            words, step = f"{line['step']}. {line['words']}", line["step"]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"is no drawing: {error!r}", field=str(line.get("id"))) from error
        verdict = "right" if line.get("taken") else "wrong"
        reason = line.get("reason") or ("taken" if line.get("taken") else "another was taken")
        drawing = as_data(picture, f"drawing of step {step}", WIDTH)
        return panel(
            f"step {verdict}", prose(words), drawing, f'<b>{escape(reason)}</b><dl class="scores">{scores}</dl>'
        )

    def rows(self, title: str, about: str, rows: Sequence[Sequence[dict[str, Any]]]) -> str:
        if not rows:
            return ""
        of = f", the first {SHOWN} shown" if len(rows) > SHOWN else ""
        parts = [f"<h2>{escape(title)}</h2><p>{escape(about)} Rows: {len(rows):,}{of}.</p>"]
        for lines in rows[:SHOWN]:
            panels = "".join(map(self.html, lines))
            name, answer = escape(lines[0].get("id")), escape(lines[0].get("answer"))
            parts.append(f'<article class="row"><header>{name}<span>gold answer {answer}</span></header>')
            parts.append(f'<ol class="strip">{panels}</ol></article>')
        return "".join(parts)


def counted(counts: dict[str, Any]) -> str:
    rows = [("rows read", counts.get("read", 0)), ("rows written", counts.get("written", 0))]
    rows += [(f"dropped: {reason}", count) for reason, count in counts.get("rejected", {}).items()]
    cells = "".join(f"<tr><th scope=row>{escape(name)}</th><td>{count:,}</td></tr>" for name, count in rows)
    return f'<div class="figures"><table><tbody>{cells}</tbody></table></div>'


def page(run_dir: Path) -> str:
    """Raises InputError naming a file that is missing or damaged."""
    run, manifest = read_object(run_dir / RUN), read_object(run_dir / MANIFEST)
    if not manifest:
        raise InputError("is not finished: the same command goes on", file=run_dir, field="run_dir")
    by_row: dict[str, list[dict[str, Any]]] = {}
    for file in sorted((run_dir / DRAWINGS).glob("*.jsonl")):
        for line in read_lines(file):
            by_row.setdefault(str(line.get("id")), []).append(line)
    sheet = Sheet(load(str(options_of(run).get("model_path")), language_model=False))
    written = [[line for line in lines if line.get("taken")] for lines in by_row.values() if lines[0].get("written")]
    reasons = {str(line.get("id")): str(line.get("reason")) for line in read_lines(run_dir / REJECTS)}
    dropped: dict[str, list[list[dict[str, Any]]]] = {}
    for name, lines in by_row.items():
        if not lines[0].get("written"):
            dropped.setdefault(reasons.get(name, "dropped"), []).append(lines)
    faults = [[line] for lines in by_row.values() for line in lines if line.get("reason") and line.get("written")]
    kept = sheet.rows("Written", "What a model is trained on: the drawings taken.", written)
    parts = [sheet.rows(f"Dropped: {reason}", "All drawings of each row.", rows) for reason, rows in dropped.items()]
    parts.append(sheet.rows("Passed over", "Drawings that a filter held back from rows that were written.", faults))
    styles = ("report.css", "drawings.css")
    style = "".join((HERE / name).read_text(encoding="utf-8") for name in styles)
    counts, passed = manifest["counts"], manifest.get("validated", {})
    drawn = Counter(str(line.get("reason") or "sound") for lines in by_row.values() for line in lines)
    said = ", ".join(f"{reason} {count:,}" for reason, count in drawn.most_common())
    return Template((HERE / "training.html").read_text(encoding="utf-8")).substitute(
        policy=f"default-src 'none'; img-src data:; style-src {fingerprint(style)}; "
        "base-uri 'none'; form-action 'none'",
        style=style,
        name=escape(run_dir.resolve().name),
        title="What was drawn for chains of thought",
        sentence=f"{counts['written']:,} of {counts['read']:,} rows have a drawing for each step and were written; "
        f"{passed.get('passed', 0):,} of {passed.get('rows', 0):,} passed when they were looked through again. "
        f"Drawings: {escape(said)}.",
        samples=counted(counts),
        circumstances=circumstances({}, run),
        curves=kept + "".join(parts),
    )


def write(run_dir: Path) -> Path:
    """Write report.html into a bootstrapped folder. Raises as `page` does."""
    path = run_dir / REPORT
    write_atomic(path, page(run_dir))
    return path
