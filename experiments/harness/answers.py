"""The answer of an experiment, as a file beside its figures."""

from pathlib import Path


def write(folder: Path, text: str) -> Path:
    r"""Writes an answer in Markdown to `answer.md` in a folder; returns the path.

    Example:
    >>> import pathlib, tempfile
    >>> from experiments.harness import answers
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     answers.write(pathlib.Path(folder), "| yes |").read_text()
    '| yes |\n'
    """
    path = Path(folder) / "answer.md"
    path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    return path
