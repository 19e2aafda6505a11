"""An OpenAI-compatible endpoint: one chat completion a call, bounded in time and size, asked again where that may help.

Only what such servers have in common is used: POST to BASE/chat/completions, `choices[0].message.content`, `usage`.
"""

import http.client
import json
import math
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any

MOST_BYTES = 1 << 20  # of a reply: a verdict is one word
FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0  # seconds between attempts: doubled each time, unless the server says how long
AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529}  # statuses that another attempt may mend
CHUNK = 1 << 14
SHOWN = 200  # characters of an error that are kept


@dataclass(frozen=True)
class Reply:
    """What a call came to: the text said, or why there is none; and the tokens it is billed for, where it says so."""

    text: str | None
    problem: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    again: bool = False  # whether another attempt may help
    wait: float | None = None  # seconds that the server asks to be left alone for


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The key goes to the server that was named and to no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True)
class Endpoint:
    """`base` ends before `/chat/completions`; `timeout`: seconds for a whole call; `key`: sent as a bearer token, and
    shown nowhere. `max_tokens` of a reply are asked for under the name `tokens_field`; `temperature` None is left out.
    """

    base: str
    model: str
    key: str | None = None
    timeout: float = 60.0
    max_tokens: int = 16
    tokens_field: str = "max_tokens"
    temperature: float | None = 0.0

    @property
    def url(self) -> str:
        return f"{self.base.rstrip('/')}/chat/completions"

    def ask(self, messages: Sequence[dict[str, str]]) -> Reply:
        """One attempt. Never raises for what a server or the network does."""
        body = {"model": self.model, "messages": list(messages), self.tokens_field: self.max_tokens}
        body |= {} if self.temperature is None else {"temperature": self.temperature}
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        request = urllib.request.Request(self.url, json.dumps(body).encode(), headers, method="POST")
        deadline = time.monotonic() + self.timeout
        try:
            with urllib.request.build_opener(_NoRedirect).open(request, timeout=self.timeout) as response:
                reply = _said(_read(response, deadline))
                return reply if reply.text is None else replace(reply, text=self._keyless(reply.text))
        except urllib.error.HTTPError as error:
            with error:
                wait, said = retry_after(error.headers.get("Retry-After")), self._told(_begin(error))
            problem = f"HTTP {error.code}: {said}" if said else f"HTTP {error.code}"
            return Reply(None, problem, again=error.code in AGAIN, wait=wait)
        except TimeoutError:
            return Reply(None, f"no reply in {self.timeout:g} s", again=True)
        except (OSError, http.client.HTTPException) as error:
            timed_out = isinstance(getattr(error, "reason", None), TimeoutError)
            problem = f"no reply in {self.timeout:g} s" if timed_out else f"{type(error).__name__}: {error}"
            return Reply(None, self._told(problem), again=True)
        except ValueError as error:  # of what is sent, such as a header: its text may show the key
            return Reply(None, type(error).__name__, again=True)

    def _told(self, text: str) -> str:
        """A line for the records, without the key, which a server may repeat."""
        printable = (letter if letter.isprintable() else " " for letter in self._keyless(text))
        return " ".join("".join(printable).split())[:SHOWN]

    def _keyless(self, text: str) -> str:
        return text.replace(self.key, "[key]") if self.key else text


def _begin(response: Any) -> str:
    """What a body begins with; nothing where that cannot be had."""
    try:
        return response.read1(CHUNK).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException, ValueError):
        return ""


def _read(response: Any, deadline: float) -> bytes:
    """The body. A timeout of the socket bounds each read; a server that drips bytes is bounded here."""
    parts, size = [], 0
    while part := response.read1(CHUNK):
        parts.append(part)
        size += len(part)
        if time.monotonic() > deadline:
            raise TimeoutError
        if size > MOST_BYTES:
            raise OSError(f"a reply of more than {MOST_BYTES:,} bytes")
    return b"".join(parts)


def _said(body: bytes) -> Reply:
    """Tokens are counted whatever else a reply lacks: they are billed."""
    tokens_in = tokens_out = 0
    try:
        data = json.loads(body)
        tokens_in, tokens_out = _billed(data)
        text = data["choices"][0]["message"]["content"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return Reply(None, "a reply that is no chat completion", tokens_in, tokens_out, again=True)
    if not isinstance(text, str):
        return Reply(None, "a reply without text", tokens_in, tokens_out, again=True)
    return Reply(text, "", tokens_in, tokens_out)


def _billed(data: Any) -> tuple[int, int]:
    usage = data.get("usage") if isinstance(data, dict) else None
    told = usage if isinstance(usage, dict) else {}
    counts = (told.get(name) for name in ("prompt_tokens", "completion_tokens"))
    tokens_in, tokens_out = (count if isinstance(count, int) and count > 0 else 0 for count in counts)
    return tokens_in, tokens_out


def retry_after(header: str | None) -> float | None:
    """Seconds of a Retry-After header, which has a number or a date; None where it says nothing usable."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def persistently(
    ask: Callable[[], Reply], retries: int, stop: threading.Event, first_wait: float = FIRST_WAIT
) -> list[Reply]:
    """Attempts until one is good or beyond mending, at most `retries` more than one; `stop` ends the waiting."""
    replies = [ask()]
    wait = first_wait
    while replies[-1].again and len(replies) <= retries:
        asked = replies[-1].wait
        if asked is not None and asked > LONGEST_WAIT:
            break  # it would be asked in vain before that
        if stop.wait(wait if asked is None else asked):
            break
        wait = min(2 * wait, LONGEST_WAIT)
        replies.append(ask())
    return replies
