"""What the processes that decode pictures run. They import no torch, so they start at once and stay small."""

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait

from omni_r1.errors import InputError
from omni_r1.files import open_image
from omni_r1.pixels import square


def see(data: bytes, resolution: int) -> bytes | str:
    """What the model sees of a picture's file, (R, R) RGB as bytes; or in words why it cannot be used."""
    try:
        return square(open_image(data), resolution).tobytes()
    except InputError as error:
        return error.message


def end_with_parent() -> None:
    """A worker of a pool holds both ends of its pipe, so it would never see that its parent was killed. Ctrl-C, which a
    terminal sends to all, is the parent's to heed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
