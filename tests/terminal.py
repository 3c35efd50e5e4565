"""A terminal of a user: a block of commands, typed into a shell of its own."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from lab.child import Child
from lab.waiting import PATIENCE_SECONDS


@contextmanager
def typed(block: str, folder: Path, environment: Mapping[str, str]) -> Iterator[Child]:
    """Run a block in a shell, as if pasted into a terminal; end it, and all it started, like Ctrl-C."""
    log = folder / "run" / f"terminal-{abs(hash(block))}.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("wb") as output, Child(["bash", "-ec", block], folder, environment, output) as shell:
        try:
            yield shell
        except BaseException:
            print(log.read_text()[-3_000:])
            raise
        finally:
            if shell.poll() is None:
                os.killpg(shell.pid, signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    shell.wait(PATIENCE_SECONDS)
