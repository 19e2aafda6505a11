"""`omni-r1 VERB [options]`: one table of verbs. A verb's module is imported only when it runs."""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from omni_r1 import options
from omni_r1.errors import InputError, OmniError


class Verb(NamedTuple):
    function: str  # "module:function", taking the options and returning the exit code
    options: type
    summary: str


VERBS = {
    "demo": Verb("omni_r1.show.demo:demo", options.DemoOptions, "the miniature at work: bench, table, report"),
    "generate": Verb("omni_r1.generate.runner:generate", options.GenerateOptions, "answer the questions of a JSONL file"),
    "pesft": Verb("omni_r1.pesft.trainer:pesft", options.PesftOptions, "fine-tune a checkpoint on trajectories"),
    "bench": Verb("omni_r1.bench.run:bench", options.BenchOptions, "answer and grade a benchmark"),
    "report": Verb("omni_r1.show.report:report", options.ReportOptions, "one HTML page of a finished run"),
}


def usage() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {verb.summary}" for name, verb in VERBS.items()]
    return "\n".join(["omni-r1: models that reason by drawing", "", "usage: omni-r1 VERB [options]", "", *lines, "",
                      "omni-r1 VERB --help lists the options of a verb."])


def load_verb(verb: Verb) -> Callable[[Any], int]:
    module, _, function = verb.function.partition(":")
    return getattr(import_module(module), function)


def run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if words[0] == "--version":
        from omni_r1 import __version__

        print(__version__)
        return 0
    verb = VERBS.get(words[0])
    if verb is None:
        raise InputError(f"no verb {words[0]!r}; the verbs are {', '.join(VERBS)}")
    if {"-h", "--help"} & set(words[1:]):
        print(options.describe(verb.options, words[0]))
        return 0
    return load_verb(verb)(options.parse(verb.options, words[1:]))


def main() -> None:
    """Exit code 0: done; 2: bad input, or rows that failed; 130: interrupted."""
    try:
        code = run(sys.argv[1:])
    except OmniError as error:
        print(f"omni-r1: error: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
