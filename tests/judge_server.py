"""A local server of chat completions that does what it is told to: answer, be silent, talk garbage, refuse, or die."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Reply = tuple[int, dict[str, str], bytes]  # status, headers, body
USAGE = {"prompt_tokens": 100, "completion_tokens": 2}


def saying(text: object, usage: object = USAGE) -> Reply:
    """A well-formed completion with this text."""
    return 200, {}, json.dumps({"choices": [{"message": {"content": text}}], "usage": usage}).encode()


def honest(pair: dict[str, str], _: int) -> Reply:
    """Right where the two texts are the same."""
    return saying(str(pair["answer"] == pair["correct answer"]))


class JudgeServer:
    """`behave(pair, attempt)` makes a reply, from 1 up for the attempts of a pair; None closes the line unanswered."""

    def __init__(
        self, behave: Callable[[dict[str, str], int], Reply | None] = honest, delay: float = 0.0, port: int = 0
    ) -> None:
        self.behave, self.delay = behave, delay
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                pair = json.loads(body["messages"][-1]["content"])
                outer.keys.append(self.headers["Authorization"])
                outer.asked.append({"path": self.path, "pair": pair, **body})
                attempt = sum(each["pair"] == pair for each in outer.asked)
                time.sleep(outer.delay)
                reply = outer.behave(pair, attempt)
                if reply is None:
                    return
                status, headers, content = reply
                try:
                    self.send_response(status)
                    for name, value in {"Content-Length": str(len(content)), **headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(content)
                except OSError:  # nobody waits for it any more
                    pass

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.die()

    def die(self) -> None:
        self.server.shutdown()
        self.server.server_close()
