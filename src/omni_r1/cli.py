"""`omni-r1 VERB [options]`: one table of verbs. A verb's module is imported only when it runs."""

import os
import select
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

from omni_r1 import __version__, options
from omni_r1.errors import InputError, OmniError
from omni_r1.option_parser import nearest, parse
from omni_r1.zero.options import BootstrapOptions


class Verb(NamedTuple):
    function: str  # "module:function", taking the options and returning the exit code
    options: type
    summary: str


VERBS = {
    "demo": Verb("omni_r1.show.demo:demo", options.DemoOptions, "the miniature at work: bench, table, report"),
    "generate": Verb(
        "omni_r1.generate.runner:generate", options.GenerateOptions, "answer the questions of a JSONL file"
    ),
    "tokenize": Verb(
        "omni_r1.data.tokenize:tokenize", options.TokenizeOptions, "turn a data set into shards of token ids"
    ),
    "pesft": Verb("omni_r1.pesft.run:pesft", options.PesftOptions, "fine-tune a checkpoint on trajectories"),
    "perpo": Verb("omni_r1.perpo.run:perpo", options.PerpoOptions, "reinforce a checkpoint on its own answers"),
    "bootstrap": Verb(
        "omni_r1.zero.run:bootstrap", BootstrapOptions, "draw the steps of reasoning in text alone, for training"
    ),
    "bench": Verb("omni_r1.bench.run:bench", options.BenchOptions, "answer and grade a benchmark"),
    "bench compare": Verb(
        "omni_r1.show.compare:compare_verb", options.CompareOptions, "say whether runs on the same questions differ"
    ),
    "report": Verb("omni_r1.show.report:report_verb", options.ReportOptions, "one HTML page of a finished run"),
}

USAGE = """\
usage: omni-r1 VERB [options]

Models that reason by drawing.

{verbs}

`omni-r1 VERB --help` lists the options of a verb, `omni-r1 --version` prints the version."""


def run(words: Sequence[str]) -> int:
    """Run the verb that `words` ask for; its exit code. Raises OmniError."""
    words = [word for word in words if not word.startswith("--local_rank=")]  # DeepSpeed's launcher puts it in front
    length = 2 if " ".join(words[:2]) in VERBS else 1
    asked, rest = " ".join(words[:length]), words[length:]
    if asked == "--version":
        print(__version__)
        return 0
    if asked in ("-h", "--help"):
        print(usage())
        return 0
    verb = VERBS.get(asked)
    if verb is None:
        raise InputError(f"no verb {asked!r}{nearest(asked, VERBS)}; there are {', '.join(VERBS)}")
    chosen: Any = parse(verb.options, rest, asked)
    module, _, function = verb.function.partition(":")
    return getattr(import_module(module), function)(chosen)


def usage() -> str:
    width = max(map(len, VERBS))
    return USAGE.format(verbs="\n".join(f"  {name:<{width}}  {verb.summary}" for name, verb in VERBS.items()))


def main(words: Sequence[str] | None = None) -> int:
    """Exit code 0: done; 2: bad input, or rows that failed; 130: interrupted; 141: nobody reads the output any more."""
    words = sys.argv[1:] if words is None else words
    if not words:
        print(usage(), file=sys.stderr)
        return 2
    try:
        code = run(words)
        sys.stdout.flush()  # what is left there would fail at the end, where nothing is caught
        return code
    except OmniError as error:
        print(f"omni-r1: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("omni-r1: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        if not silenced():
            raise  # of another pipe, such as a worker's
        return 141


def silenced() -> bool:
    """Whether stdout or stderr is a pipe that is read no more, as by `head`. What is left for them goes nowhere."""
    closed = []
    for descriptor in (1, 2):
        asked = select.poll()
        asked.register(descriptor, select.POLLOUT)
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in asked.poll(0)):
            closed.append(descriptor)
    for descriptor in closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    return bool(closed)


if __name__ == "__main__":
    sys.exit(main())
