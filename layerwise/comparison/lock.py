"""Lock: one comparison at a time in a results folder."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import filelock


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keeps other comparisons out of a folder for as long as this context, or this process, lasts.

    Raises:
        RuntimeError: Another comparison is in the folder; the message names it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # The operating system lets go of it when a process dies, however that dies.
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise RuntimeError(
            f"{folder} is in use by another comparison{_who(folder)}. Wait for it, stop it, or give another results folder."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _who(folder):
    """The process that wrote into a folder's settings last, for a message."""
    try:
        last = json.loads((folder / "settings.json").read_text())["sessions"][-1]
        return f": process {last['process']} on {last['host']}, started {last['started_at']}"
    except (OSError, ValueError, KeyError):
        return ""
