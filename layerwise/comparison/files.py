"""Files of frames: put in place whole, and named where they cannot be read."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def write_atomically(path: Path, write: Callable[..., object], **options: Any) -> None:
    """Calls `write(temporary path)` and puts the file in place in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary, **options)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)  # half a file, where the disk is full


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Says which file cannot be read.

    Raises:
        ValueError: It is damaged, or missing.
    """
    try:
        yield
    except PermissionError:
        raise
    except (ValueError, KeyError, OSError) as error:
        said = " ".join(str(error).split())
        raise ValueError(
            f"{path} cannot be read ({type(error).__name__}: {said}). Restore it from git or a backup, "
            f"or move {path.parent}/ away to train anew. Nothing was changed."
        ) from error
