"""What a child process grades; in a module that a spawned one can import."""

import os
from typing import Any

from omni_r1.perpo.grading import algebra, grade


def in_child(queue: Any, question: tuple[str, str]) -> None:
    queue.put((grade(*question).correct, algebra._worker.owner == os.getpid()))
