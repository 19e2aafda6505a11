"""Typed errors: the command line prints one line of any, and ends with code 2. And warnings, which end nothing."""

import sys


class OmniError(Exception):
    """Base of every error this project raises on purpose."""


class InputError(OmniError):
    """Bad input, located as precisely as it is known.

    `file` is the path, `row` counts from 1, `field` is the key or option at fault.
    """

    def __init__(self, message: str, *, file: object = None, row: int | None = None, field: str | None = None) -> None:
        self.message, self.file, self.row, self.field = message, file, row, field
        place = ":".join(str(part) for part in (file, row) if part is not None)
        where = [part for part in (place, f"field '{field}'" if field else "") if part]
        super().__init__(": ".join([*where, message]))


def warn(message: str) -> None:
    """Tell on stderr what whoever started this should know, in a line."""
    print(f"omni-r1: warning: {message}", file=sys.stderr)
