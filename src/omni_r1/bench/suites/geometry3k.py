"""Geometry3K: a diagram and a problem; the answer is a number or an expression, or a letter where it has choices."""

from dataclasses import replace

from omni_r1.bench.suites.files import Files
from omni_r1.bench.suites.rows import Row, letter_of, lettered, read, with_marks
from omni_r1.bench.suites.suite import Item
from omni_r1.perpo.grading.canonical import canonical
from omni_r1.perpo.grading.choices import choice

HUB, SPLIT = "hiyouga/geometry3k", "test"


def questions(files: Files) -> list[Item]:
    """`images`, `problem` (with `<image>`), `answer`; where the answer is a letter, `choices`."""

    def convert(row: Row) -> Item:
        field = row.first("images", "image")
        pictures = row.pictures(field)
        text = with_marks(row.text("problem", required=True) or "", pictures)
        gold, options = row.gold("answer"), row.texts("choices")
        item = Item("", text, pictures, None, gold, source="geometry3k", text_field="problem", images_field=field)
        if options is None or choice(canonical(gold)) is None:
            return replace(item, profile="number")
        letter = letter_of(row, "answer", options)
        return replace(item, text=lettered(text, options, "choices"), gold=letter, profile="choice", options=options)

    return read(files, convert)
