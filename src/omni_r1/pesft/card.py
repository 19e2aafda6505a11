"""The model card of a trained checkpoint, `README.md` in its folder: what it is made of, how, and under which terms."""

import dataclasses
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import ModelCard, ModelCardData

from omni_r1.data.shards import MANIFEST
from omni_r1.files import read_bytes, read_jsonl, write_atomic
from omni_r1.options import SHIPPED, PerpoOptions, PesftOptions
from omni_r1.run_record import RUN

CARD = "README.md"
TAGS = ["omni-r1", "chameleon", "visual-reasoning", "interleaved-text-and-images"]
LICENCE = re.compile(r"## Licence\n\n(.*?)\n\nWhoever", re.DOTALL)
ADAPTER = "\n`adapter/` has the low-rank adapter alone, in PEFT's format; the weights here are `{base}` and it.\n"
CHAMELEON = re.compile("chameleon|anole|omni-?r1", re.IGNORECASE)
RESEARCH = "chameleon-research-license"
RESEARCH_LINK = "https://ai.meta.com/resources/models-and-libraries/chameleon-license/"
DATA_LICENCES = {"zebra-cot": "cc-by-nc-4.0", "m3cot": "cc-by-sa-4.0"}  # by the name of a data set of the hub
DERIVED = {
    "zebra-cot": "Zebra-CoT, cc-by-nc-4.0",
    "original": "Zebra-CoT, cc-by-nc-4.0",
    "m3cot": "M3CoT, cc-by-sa-4.0",
}

TEXT = """\
# {name}

A model of the Chameleon family that reasons by drawing: it answers in text and images, each image a step of the
reasoning. Made from {base} by {method} with Omni-R1.

## Data

{data}

## Recipe

What differs from the defaults of `omni-r1 {verb}`, and the seed:

{recipe}

Made with {versions}; commit {commit}.

## Figures

At the end of training, on the training data; of held-out questions they say nothing.

{figures}

## Use

```python
import omni_r1

omni = omni_r1.load("{name}")
prompt = omni.prompt("QUESTION <image>", [picture])  # PIL images
answer = omni.generate([prompt], max_new_tokens=4096)[0].trajectory
```

```bash
omni-r1 generate --model-path {name} --input questions.jsonl
```
{adapter}
## Licence

{licence}

## Limits

Drawings are made token by token and may be wrong where the words are right, or the other way round. The model knows
what its base and the data above taught it, and was checked on nothing else here. Check an answer before relying on it.
"""


class Stage(NamedTuple):
    """What a stage of training is called, what it uses of its data, and which figures of its log are told."""

    verb: str
    method: str
    used: str
    figures: tuple[str, ...]


PESFT = Stage(
    "pesft",
    "perception-aligned supervised fine-tuning (PeSFT)",
    "",
    ("loss", "ce_text", "ce_code", "perception", "tokens_per_second"),
)
PERPO = Stage(
    "perpo",
    "reinforcement of its own answers with a perception reward (PeRPO)",
    "\n\nOnly the questions and their final answers were used.",
    ("reward", "accuracy", "format", "perception", "images", "whole_images", "length", "kl", "entropy", "drift"),
)


def write_card(output: Path, options: PesftOptions | PerpoOptions, data: Path, rows: int, log: Path) -> None:
    """Write the card of what was trained on `rows` rows into its folder, which has the run's record.

    `data` is the file of the rows, or the manifest of the folder that they are in.
    """
    stage = PESFT if isinstance(options, PesftOptions) else PERPO
    manifest = json.loads(read_bytes(data)) if data.name == MANIFEST else {}
    source = manifest.get("source", {})
    hub_data = source["name"] if source.get("revision") else None  # files of one's own have no revision
    record = json.loads((output / RUN).read_text())
    terms = licences(options.model_path, manifest)
    header = ModelCardData(
        library_name="omni-r1",
        pipeline_tag="any-to-any",
        base_model=None if is_local(options.model_path) else options.model_path,
        datasets=hub_data,
        tags=TAGS + (["lora"] if options.lora_rank else []),
        **terms["header"],
    )
    base = shown(options.model_path)
    text = TEXT.format(
        name=options.push_to_hub or output.resolve().name,
        base=f"`{base}`",
        method=stage.method,
        verb=stage.verb,
        data=bullets(described(manifest) or [("file", f"`{data.name}`"), ("rows", f"{rows:,}")]) + stage.used,
        recipe=table(("option", "value"), [*changed(options), ("processes", str(record["processes"]))]),
        versions=", ".join(f"{name} {number}" for name, number in record["versions"].items() if number),
        commit=record["commit"] or "unknown",
        figures=table(("figure", "value"), figures(log, stage.figures)),
        adapter=ADAPTER.format(base=base) if options.lora_rank else "",
        licence=terms["text"],
    )
    write_atomic(output / CARD, str(ModelCard(f"---\n{header.to_yaml()}\n---\n\n{text}")))


def described(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """Where the data came from, and how much of it there is."""
    if not manifest:
        return []
    source, counts = manifest["source"], manifest["counts"]
    rejected = [f"{reason} {count:,}" for reason, count in counts["rejected"].items()]
    told = [
        ("source", f"`{source_name(source)}`"),
        ("revision", source.get("revision")),
        ("configs", ", ".join(source.get("configs") or [])),
        ("rows", f"{counts['written']:,} of {counts['read']:,}"),
        ("rejected", ", ".join(rejected) or "none"),
        ("images", f"{counts['images']:,}, of them {counts['target_images']:,} drawn by the model"),
        ("tokens", f"{counts['tokens']:,}"),
        ("drawings", drawn_by(manifest["drawn_by"]) if "drawn_by" in manifest else None),
    ]
    return [(name, value) for name, value in told if value]


def drawn_by(made: dict[str, Any]) -> str:
    """Whose the drawings of a bootstrapped folder are. Of what may be a path the last part."""
    model = str(made["model"])
    if not is_local(model) and (Path(model).is_absolute() or model.count("/") != 1):
        model = Path(model).name
    sums = ", ".join(f"{name} {digest[:12]}" for name, digest in made["files"].items())
    return f"none by hand: all by `{shown(model)}` (sha256 of {sums})"


def changed(options: PesftOptions | PerpoOptions) -> list[tuple[str, str]]:
    """The options that are not at their defaults, and the seed; of local files only the name."""
    fields = dataclasses.fields(options)
    values = [(field.name, getattr(options, field.name), field.default) for field in fields]
    return [(name, f"`{shown(value)}`") for name, value, usual in values if value != usual or name == "seed"]


def figures(log: Path, names: Iterable[str]) -> list[tuple[str, str]]:
    """The last value of each of the figures in a run's log, and the number of steps."""
    rows = [row for _, row in read_jsonl(log) if isinstance(row, dict)]
    last = {name: value for row in rows for name, value in row.items()}
    return [("steps", f"{last.get('perpo_step', last.get('step', 0)):,.0f}")] + [
        (name, f"{last[name]:.4g}") for name in names if name in last
    ]


def licences(base: str, manifest: dict[str, Any]) -> dict[str, Any]:
    """The card's licence fields, and the same in words: the base model's terms and the data's."""
    licence, words = data_licence(manifest)
    header = {"license": licence}
    if base == SHIPPED:
        words = f"- Base model, the miniature of Omni-R1: mit\n{words}"
    elif (card := Path(base, CARD)).is_file() and (told := terms_of(card)):
        header = told[0] if licence in ("unknown", told[0].get("license")) else {"license": "other"}
        words = "\n".join(dict.fromkeys(f"{told[1]}\n{words}".splitlines()))
    elif CHAMELEON.search(shown(base)):
        header = {"license": "other", "license_name": RESEARCH, "license_link": RESEARCH_LINK}
        words = f"- Base model: [Chameleon research licence of Meta]({RESEARCH_LINK}), for research alone\n{words}"
    else:
        header = {"license": "other"}
        words = f"- Base model: the terms of `{shown(base)}`; Chameleon and Anole are for research alone\n{words}"
    return {"header": header, "text": f"{words}\n\nWhoever uses this model is bound by all of it."}


def terms_of(card: Path) -> tuple[dict[str, Any], str] | None:
    """The licence fields of a card that this module wrote and its terms in words, None for another's card."""
    before = ModelCard.load(card, ignore_metadata_errors=True)
    found = LICENCE.search(before.text)
    if before.data.library_name != "omni-r1" or found is None:
        return None
    fields = ("license", "license_name", "license_link")
    return {key: value for key in fields if (value := getattr(before.data, key, None))}, found[1].strip()


def data_licence(manifest: dict[str, Any]) -> tuple[str, str]:
    """The data's licence as it states it, or as a known data set of the hub has it; and the same in words."""
    source, form = manifest.get("source", {}), manifest.get("format", "")
    name = source_name(source) if source else "the rows it was trained on"
    known = [licence for each, licence in DATA_LICENCES.items() if source.get("revision") and each in name.lower()]
    stated = [source["licence"]] if source.get("licence") else known
    if stated:
        return stated[0], f"- Data, {name}: {stated[0]}"
    schema = f"; rows in this form are mostly of {DERIVED[form]}" if form in DERIVED else ""
    return "unknown", f"- Data, {name}: its licence is not stated{schema}"


def source_name(source: dict[str, Any]) -> str:
    return source["name"] if source.get("revision") else Path(source["name"]).name


def is_local(name: str) -> bool:
    return name == SHIPPED or Path(name).exists()


def shown(value: Any) -> str:
    """A value for readers elsewhere: a path of this machine is its last part alone."""
    text = str(value)
    return Path(text).resolve().name if isinstance(value, str) and Path(text).exists() else text


def bullets(told: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in told)


def table(head: tuple[str, str], rows: Iterable[tuple[str, str]]) -> str:
    lines = [head, ("---", "---"), *rows]
    return "\n".join(f"| {name} | {value} |" for name, value in lines)
