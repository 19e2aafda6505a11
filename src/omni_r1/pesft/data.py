"""Which rows a run is trained on: a folder of shards, a file of trajectories, or the original's own JSONL."""

from pathlib import Path

import transformers

from omni_r1.data.shards import MANIFEST, TokenDataset
from omni_r1.data.tokenize import tokenize
from omni_r1.errors import InputError
from omni_r1.model import Omni
from omni_r1.model.vq import digest
from omni_r1.options import PesftOptions, TokenizeOptions
from omni_r1.pesft.dataset import Rows, TrajectoryDataset

TOKENIZED = "data"  # the folder of OUTPUT_PATH into which `json_dir` is tokenised


def training_rows(options: PesftOptions, omni: Omni, arguments: transformers.TrainingArguments) -> tuple[Rows, Path]:
    """The rows, and the file whose content fixes them: a file of trajectories itself, or the manifest of a folder.

    Raises InputError for rows that cannot be used; those of `json_dir` are counted and listed instead.
    """
    if options.json_dir is not None:
        folder = Path(options.output_path) / TOKENIZED
        with arguments.main_process_first(local=False):
            if arguments.should_save:
                tokenize(original_rows(options, folder))
            return TokenDataset(folder, omni.vocabulary), folder / MANIFEST
    assert options.train_data is not None  # one of the two is there
    rows, data = rows_of(Path(options.train_data), options.max_length, omni)
    laid_out = rows.manifest.get("mode") if isinstance(rows, TokenDataset) else None
    if None not in (options.mode, laid_out) and options.mode != laid_out:
        raise InputError(f"its rows are laid out in mode {laid_out}, not {options.mode}", file=data, field="mode")
    return rows, data


def rows_of(data: Path, max_length: int, omni: Omni) -> tuple[Rows, Path]:
    """The rows of a folder of shards or a file of trajectories, and the file whose content fixes them.

    Raises InputError for rows that cannot be used.
    """
    if not data.is_dir():
        return TrajectoryDataset(data, omni.vocabulary, max_length), data
    rows = TokenDataset(data, omni.vocabulary, max_length)
    made_by = rows.manifest.get("vq")
    if made_by is not None and made_by != digest(omni.model.model.vqmodel):
        raise InputError(
            "its pictures were encoded by another VQ than this checkpoint's", file=data, field="train_data"
        )
    return rows, data / MANIFEST


def original_rows(options: PesftOptions, folder: Path) -> TokenizeOptions:
    return TokenizeOptions(
        input=str(options.json_dir),
        format="original",
        model_path=options.model_path,
        output_path=str(folder),
        mode=options.mode or "plain",
        plain_include_rationale=options.plain_include_rationale,
        max_length=options.max_length,
    )
