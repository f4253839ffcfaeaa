"""Lock: one comparison at a time in a results folder."""

import contextlib
import json
import os
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import filelock

HOLDER = ".holder"


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
    started = datetime.now(UTC).isoformat(timespec="seconds")
    holder = {"process": os.getpid(), "host": platform.node(), "started": started}
    try:
        with contextlib.suppress(OSError):  # a full disk
            (folder / HOLDER).write_text(json.dumps(holder))
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / HOLDER).unlink()
        lock.release()


def _who(folder):
    """The process that is in a folder, for a message."""
    try:
        holder = json.loads((folder / HOLDER).read_text())
        return f": process {holder['process']} on {holder['host']}, started {holder['started']}"
    except (OSError, ValueError, KeyError):  # it has only just come
        return ""
