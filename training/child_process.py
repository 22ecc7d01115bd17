"""How a worker process of ours begins."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


def leave_ending_to_parent() -> None:
    """Ignore Ctrl-C, which the parent gets as well and answers, and end when the parent does.

    Without the second, workers of a killed parent would wait for tasks for ever. Does nothing in the main process.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
