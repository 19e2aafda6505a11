"""ArxivQA: figures of papers; a question, its options and the right one's label, each in whatever form it came."""

from omni_r1.bench.suites.files import Files
from omni_r1.bench.suites.rows import Row, bare, letter_of, lettered, read
from omni_r1.bench.suites.suite import Item
from omni_r1.errors import InputError

HUB, SPLIT = "MMInstruction/ArxivQA", None
PICTURES = ("images/*",)


def questions(files: Files) -> list[Item]:
    """Keys `id`, `image` (a path below the file), `question`, `options`, `label`, which names an option."""

    def convert(row: Row) -> Item:
        options = row.texts("options")
        if options is None:
            raise InputError("is missing", field="options")
        gold = letter_of(row, "label", options)
        text = lettered(row.text("question", required=True) or "", options, "options")
        pictures = row.pictures("image")
        return Item("", text, pictures, None, gold, source="arxivqa", profile="choice", options=bare(options))

    return read(files, convert)
