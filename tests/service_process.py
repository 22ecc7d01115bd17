"""A `midfill-serve` with the bundled model, for tests that ask it from outside."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from deploy.cluster.processes import service_environment


@contextmanager
def running_service(*options: str, stderr: IO[str] | None = None, **environ: str) -> Iterator[str]:
    """The URL of one on a free port, with one thread and no other settings than these; it ends with the block."""
    command = [sys.executable, "-m", "inference_service", "--port", "0", "--device", "cpu", "--threads", "1", *options]
    environment = {**service_environment({}), **environ}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True) as process:
        try:
            assert process.stdout is not None
            yield next(line for line in process.stdout if "ready on" in line).split()[3]
        finally:
            process.terminate()
    assert process.returncode == 0, "it did not end as it was asked to"
