"""A language model as judge of final answers, by the paper's rules (section 5, Table 7): true, false, or nothing.

Only gold answer and given answer are shown. A verdict is the one word that was asked for; whatever else comes is none,
is asked for again, and in the end is missing, with a reason: nothing is ever read into it. Each reply is kept in the
run folder as soon as it is heard, under the digest of who was asked what, so that no question is paid for twice.
"""

import hashlib
import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omni_r1.bench.endpoint import Endpoint, Reply, persistently
from omni_r1.errors import warn
from omni_r1.files import AppendLog
from omni_r1.run_record import JUDGED

DEAD_AFTER = 20  # questions one after the other without any reply: the others are not asked
LONGEST = 4_000  # characters of an answer that are shown; a longer one is no answer
SHOWN = 200  # characters of a reply that are kept

RULES = """\
You compare an answer with the correct one and decide whether they mean the same.
Reply with one word and nothing else: True or False.

- Judge by these two texts alone. How an answer is phrased does not matter.
- An answer that contradicts the correct one, or leaves open which of several it is, is False.
- An empty or unclear answer, or one that gives several answers where one is asked for, is False.
- Numbers may be written differently, in scientific notation or rounded. With units they must come to the same value.
- Lists must have the same items, in any order.
- A name that can only mean the same thing is True.
- The letter of a choice, its place in the list (A is the first) and the text of the option are the same."""


@dataclass(frozen=True)
class Opinion:
    """What the judge says of a pair; `correct` None: it did not say, for the `reason`. Not `asked`: nobody said it."""

    correct: bool | None
    reason: str
    asked: bool = True


def messages(answer: str, gold: str) -> list[dict[str, str]]:
    """What the judge is asked. The answer is quoted as JSON, so that nothing in it passes for the rules."""
    pair = json.dumps({"correct answer": gold, "answer": answer}, ensure_ascii=False)
    return [{"role": "system", "content": RULES}, {"role": "user", "content": pair}]


def verdict_of(text: str) -> bool | None:
    """`True` or `False`, in any case, with a full stop or in bold; None for anything else."""
    return {"true": True, "false": False}.get(text.strip().strip("*`\"'").rstrip(".").strip().casefold())


def digest(endpoint: Endpoint, asked: Sequence[dict[str, str]]) -> str:
    """Of who is asked, how, and what: another temperature or budget may make another verdict."""
    who = [endpoint.url, endpoint.model, endpoint.temperature, endpoint.max_tokens]
    return hashlib.sha256(json.dumps([*who, *asked], sort_keys=True).encode()).hexdigest()


class Judge:
    """Asks an endpoint, several questions at a time, and keeps what it says in `folder`."""

    def __init__(self, endpoint: Endpoint, folder: Path, retries: int, parallel: int, first_wait: float = 0.5) -> None:
        self.endpoint, self.retries, self.parallel, self.first_wait = endpoint, retries, parallel, first_wait
        self.log = AppendLog(folder / JUDGED)
        self.known = {row["key"]: bool(row["correct"]) for row in self.log.rows if row["correct"] is not None}
        self.failures = 0  # questions one after the other that got no reply at all
        self.stop = threading.Event()
        self.lock = threading.Lock()  # of the log and the count of failures

    def opinions(self, pairs: Iterable[tuple[str | None, str]]) -> Iterator[Opinion]:
        """An opinion of each (answer, gold), in their order. A pair that occurs twice is asked once."""
        keys: list[str | Opinion] = []
        new: dict[str, list[dict[str, str]]] = {}
        for answer, gold in pairs:
            if answer is None or not answer.strip():
                keys.append(Opinion(False, "no answer, which is not asked about", asked=False))
                continue
            asked = messages(answer, gold)
            if len(asked[1]["content"]) > LONGEST:
                keys.append(Opinion(False, f"longer than {LONGEST:,} characters, which is no answer", asked=False))
                continue
            keys.append(key := digest(self.endpoint, asked))
            if key not in self.known:
                new[key] = asked
        missing: dict[str, Opinion] = {}
        with ThreadPoolExecutor(self.parallel) as pool:
            try:
                missing = dict(zip(new, pool.map(self._ask, new, new.values()), strict=True))
            except BaseException as error:
                self.stop.set()  # else the pool would ask all others before it ends
                if isinstance(error, KeyboardInterrupt):
                    warn(f"the replies that are under way are heard first: {self.endpoint.timeout:g} s at most")
                raise
        for each in keys:
            if isinstance(each, Opinion):
                yield each
            elif each in self.known:
                yield Opinion(self.known[each], f"{self.endpoint.model} says {self.known[each]}")
            else:
                yield missing[each]

    def _ask(self, key: str, asked: Sequence[dict[str, str]]) -> Opinion:
        """Ask until there is a verdict; what is said where there is none in the end."""
        if self.stop.is_set():
            dead = f"the judge has failed {DEAD_AFTER} questions one after the other, and is not asked any more"
            return Opinion(None, dead, asked=False)
        try:
            replies = persistently(lambda: self._once(key, asked), self.retries, self.stop, self.first_wait)
        except BaseException:
            self.stop.set()  # the log cannot be written: whatever else is asked would be lost
            raise
        with self.lock:
            self.failures = 0 if any(reply.text is not None for reply in replies) else self.failures + 1
            if self.failures >= DEAD_AFTER:
                self.stop.set()
        return Opinion(None, replies[-1].problem)

    def _once(self, key: str, asked: Sequence[dict[str, str]]) -> Reply:
        """One reply; it is logged where it decides or is billed."""
        reply = self.endpoint.ask(asked)
        correct = None if reply.text is None else verdict_of(reply.text)
        if correct is not None or reply.tokens_in or reply.tokens_out:
            told: dict[str, Any] = {"key": key, "model": self.endpoint.model, "url": self.endpoint.url}
            told |= {"correct": correct, "reply": (reply.text or "")[:SHOWN]}
            told |= {"tokens_in": reply.tokens_in, "tokens_out": reply.tokens_out}
            with self.lock:
                self.log.append(told)
        if correct is not None:
            self.known[key] = correct
        elif reply.text is not None:
            return replace(reply, problem=f"a reply that is no verdict: {reply.text[:40]!r}", again=True)
        return reply

    def figures(self, price_in: float, price_out: float) -> dict[str, Any]:
        """Tokens of all replies of this judge, and what they cost at prices a million."""
        asked = (self.endpoint.model, self.endpoint.url)
        mine = [row for row in self.log.rows if (row.get("model"), row.get("url")) == asked]
        tokens_in, tokens_out = (sum(row[name] for row in mine) for name in ("tokens_in", "tokens_out"))
        cost = (tokens_in * price_in + tokens_out * price_out) / 1e6
        return {"model": self.endpoint.model, "tokens_in": tokens_in, "tokens_out": tokens_out, "cost": cost}
