"""One process for each device, each with the checkpoint and a transformers backend to itself.

The parent hands requests out and takes completions in. What a row becomes does not depend on the process it is answered
in, as it does not depend on its batch. Each worker has a pipe of its own and nothing is shared: a worker that is killed
leaves no lock behind, and each side sees the other's end as the end of the pipe.
"""

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
from transformers.utils.logging import disable_progress_bar

from omni_r1.errors import OmniError
from omni_r1.generate.backend import Backend, Completion, Progress, Request, SamplingOptions, WorkerError, how_it_ended
from omni_r1.generate.transformers_backend import TransformersBackend
from omni_r1.model import checkpoint, load
from omni_r1.vocabulary import Vocabulary

AHEAD = 4  # one row in so many of a batch is sent ahead, so that a worker need not wait when a row ends
READY = "ready"


class WorkerBackend(Backend):
    """Completes prompts on several devices, up to `batch_size` rows at a time on each.

    `devices`: a torch device for each process; one may be there twice. `loading`: the keywords of `omni_r1.load`
    beside the device. Raises what `load` raises in a worker, and WorkerError naming a worker that has died. An error,
    or a stream that is not read to its end, ends all workers; so does the end of this process, however it comes.
    As with every use of multiprocessing, a script that makes one needs `if __name__ == "__main__":`.
    """

    def __init__(
        self,
        path: str | Path,
        devices: Sequence[str],
        *,
        batch_size: int = 64,
        compiled: bool = False,
        **loading: Any,
    ) -> None:
        folder = checkpoint.locate(path)  # what has to be downloaded is downloaded once
        words = loading.get("processor_path")
        self.vocabulary = Vocabulary.from_checkpoint(folder, words and checkpoint.locate(words))
        self.batch_size = batch_size
        self.workers: list[Worker] = []
        try:
            for number, device in enumerate(devices, 1):
                name = f"worker {number} of {len(devices)}"
                running = {"batch_size": batch_size, "compiled": compiled}
                self.workers.append(Worker(name, device, (folder, running, loading, _threads(device, devices))))
            waiting = set(self.workers)
            while waiting:
                waiting -= {worker for worker, _ in self._messages()}
        except BaseException:
            self.close()
            raise

    def stream(
        self, requests: Iterable[Request], options: SamplingOptions, progress: Progress | None = None
    ) -> Iterator[tuple[int, int, Completion]]:
        """See `Backend.stream`. `progress` is called as rows finish."""
        if not self.workers:
            raise WorkerError("the workers have ended")
        try:
            yield from self._stream(iter(requests), options, progress)
        except BaseException:  # what they are at belongs to this stream, so they cannot go on with another
            self.close()
            raise

    def close(self) -> None:
        """End all workers at once."""
        for worker in self.workers:
            worker.process.kill()
        for worker in self.workers:
            worker.process.join()
            worker.pipe.close()
        self.workers = []

    def _stream(
        self, requests: Iterator[Request], options: SamplingOptions, progress: Progress | None
    ) -> Iterator[tuple[int, int, Completion]]:
        most = self.batch_size + max(1, self.batch_size // AHEAD)
        rows_done = tokens = 0
        exhausted = False
        for worker in self.workers:
            worker.send(options)
        while not exhausted or any(worker.rows for worker in self.workers):
            worker = min(self.workers, key=lambda worker: worker.rows)
            room = not exhausted and worker.rows < most
            if room:
                request = next(requests, None)
                if request is None:
                    exhausted = True
                    for worker in self.workers:
                        worker.send(None)
                else:
                    worker.rows += len(request.seeds)
                    worker.send(request)
            for worker, (key, place, completion) in self._messages(block=not room):
                worker.rows -= 1
                rows_done, tokens = rows_done + 1, tokens + len(completion.logprobs)
                if progress is not None:
                    progress(rows_done, tokens)
                yield key, place, completion

    def _messages(self, block: bool = True) -> Iterator[tuple["Worker", Any]]:
        """What workers have sent, one message of each. Raises WorkerError for one that has died, or what it raised."""
        ready = wait([part for one in self.workers for part in (one.pipe, one.process.sentinel)], None if block else 0)
        for worker in self.workers:
            if worker.pipe in ready or worker.process.sentinel in ready:
                yield worker, worker.receive()


class Worker:
    """A process as its parent sees it. `rows` of it are not back yet."""

    def __init__(self, name: str, device: str, arguments: tuple[Any, ...]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, device, *arguments), daemon=True)
        with _deaf_to_interrupts():
            self.process.start()
        theirs.close()
        self.name = f"{name} ({device}, process {self.process.pid})"
        self.rows = 0

    def send(self, message: Any) -> None:
        """Raises as `receive` does, for a worker that has ended."""
        try:
            self.pipe.send(message)
        except OSError:
            while True:  # until what it said last, or the end of the pipe
                self.receive()

    def receive(self) -> Any:
        """The next message of a worker that has sent one or has died. Raises WorkerError, or what the worker raised."""
        if not self.pipe.poll():  # dead, yet the pipe is open: something the worker started holds its end
            raise self._death()
        try:
            message = self.pipe.recv()
        except (EOFError, OSError) as error:
            raise self._death() from error
        if isinstance(message, WorkerError):
            raise WorkerError(f"{self.name} failed: {message}")
        if isinstance(message, OmniError):
            raise message
        return message

    def _death(self) -> WorkerError:
        self.process.join(5)  # its pipe ends a moment before it does
        return WorkerError(f"{self.name} died: {how_it_ended(self.process.exitcode)}")


def serve(
    pipe: Connection, device: str, folder: Path, running: dict[str, Any], loading: dict[str, Any], threads: int | None
) -> None:
    """The life of a worker: load, say so, then for each stream read its options, its requests, and None at their end.

    It sends (key, place, completion), or as its last message the error that ends it.
    """
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(pipe, inbox), daemon=True).start()
    disable_progress_bar()  # of loading: one from each would garble the terminal
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        backend = TransformersBackend(load(folder, device=device, **loading), **running)
        pipe.send(READY)
        while True:
            options = inbox.get()
            for finished in backend.stream(iter(inbox.get, None), options):
                pipe.send(finished)
    except ConnectionError:  # the parent has ended
        return
    except OmniError as error:
        pipe.send(error)
    except Exception as error:
        pipe.send(WorkerError(f"{type(error).__name__}: {error}"))
        raise


def _read(pipe: Connection, inbox: queue.SimpleQueue) -> None:
    """Take in what the parent sends. Always, lest each side waits for the other to read; and so that the worker ends
    with its parent, even in the middle of a forward."""
    while True:
        try:
            message = pipe.recv()
        except (EOFError, OSError):
            os._exit(1)
        inbox.put(message)


def _threads(device: str, devices: Sequence[str]) -> int | None:
    """Threads of a worker: those on the CPU share its cores, which do worse than nothing when each takes them all."""
    if not device.startswith("cpu"):
        return None
    return max(1, torch.get_num_threads() // sum(other.startswith("cpu") for other in devices))


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes started here never see Ctrl-C, which a terminal sends to all: the parent does, and ends them."""
    resource_tracker.ensure_running()  # else it is started with the process, and unblocks the signal before that
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
