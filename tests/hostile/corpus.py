"""Writes the hostile files of a family into a folder: `python -m hostile.corpus pictures|rows|suites FOLDER`.

Nothing of it is stored in this repository, and every run writes the same. Making a bomb takes memory too, so a process
whose memory is watched has it made by another: `written`. Places and checkpoints are made as they are tried, by
`places.build` and `settings.damages`.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from hostile import pictures, rows, suites

WRITERS = {"pictures": pictures.write, "rows": rows.write, "suites": suites.write}


def written(family: str, folder: Path) -> Any:
    """What the family's writer returns, from a process of its own."""
    command = [sys.executable, "-m", "hostile.corpus", family, str(folder)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=100).stdout)


if __name__ == "__main__":
    print(json.dumps(WRITERS[sys.argv[1]](Path(sys.argv[2]))))
