"""A process that runs hostile cases one by one and writes down what became of each: `python -m hostile.watched FAMILY`.

Cases run beside the tests, because a case may end its process, and because its peak memory and the files it opens are
to be seen. The report is a JSON line a case, written before the next begins.
"""

import faulthandler
import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from omni_r1.errors import OmniError

HANG = 120  # seconds after which the process ends itself, telling where it is
Case = tuple[str, Callable[[], Any]]


class Watch:
    """What the process did that it must not: files opened outside, pickles read, connections made."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.outside = "/no such folder"
        sys.addaudithook(self._hook)

    def _hook(self, event: str, values: tuple) -> None:
        if event == "open" and isinstance(values[0], str | bytes):
            path = os.path.realpath(os.fsdecode(values[0]))
            forbidden = path.startswith((self.outside, "/etc/passwd", "/dev/zero")) or path.endswith("/environ")
            if forbidden and not path.startswith(f"{self.outside}/data/"):
                self.seen.append(f"opened {path}")
        elif event == "pickle.find_class":
            self.seen.append(f"unpickled {values}")
        elif event in ("socket.connect", "os.system", "os.exec"):
            self.seen.append(f"{event} {values}")
            raise ConnectionRefusedError("no case has anything to do here")
        elif event == "socket.getaddrinfo" and not looks_local(str(values[0])):
            raise OSError("names are not looked up in a test")


def looks_local(host: str) -> bool:
    """Numbers in any notation, and this machine's own name: looking them up asks nobody."""
    return (
        host.lower() == "localhost"
        or host.isascii()
        and all(part[:1].isdigit() or ":" in part for part in host.split("."))
    )


def megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def watched(cases: Iterator[Case], watch: Watch, report: Path) -> None:
    with open(report, "w", encoding="utf-8") as out:
        for name, case in cases:
            print(f"# {name!a}", flush=True)
            faulthandler.dump_traceback_later(HANG, exit=True)
            before, begun, used = megabytes(), time.monotonic(), time.process_time()
            watch.seen = []
            found: dict[str, Any] = {"name": name, "result": None, "refused": None, "crash": None}
            try:
                found["result"] = case()
            except OmniError as error:
                found["refused"] = str(error)
            except BaseException:  # also a panic of a Rust library, which is no Exception
                found["crash"] = traceback.format_exc()
            found |= {"seconds": time.monotonic() - begun, "cpu": time.process_time() - used}
            found |= {"peak": megabytes(), "grown": megabytes() - before, "seen": watch.seen}
            faulthandler.cancel_dump_traceback_later()
            out.write(json.dumps(found) + "\n")
            out.flush()


if __name__ == "__main__":
    family, folder = sys.argv[1], Path(sys.argv[2])
    watch = Watch()
    watched(import_module("hostile.families").FAMILIES[family](folder, watch), watch, folder / "report.jsonl")
