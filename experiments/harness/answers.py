"""The answer of an experiment: as a file beside its figures, and printed."""

import shlex
from argparse import Namespace
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from layerwise.comparison.audit import audit


def on_backend(command: str, backends: Iterable[str]) -> str:
    """A command as it is typed where Keras has a backend; as it is where that is TensorFlow, the default, or several.

    Example:
    >>> from experiments.harness.answers import on_backend
    >>> on_backend("python -m experiments run depth", ["jax", "jax"])
    'KERAS_BACKEND=jax python -m experiments run depth'
    """
    found = set(backends)
    return (
        command
        if len(found) != 1 or "tensorflow" in found
        else f"KERAS_BACKEND={found.pop()} {command}"
    )


def in_one(commands: Iterable[str]) -> list[str]:
    """Commands of which those that differ in nothing but `--only` are one with all its parts.

    Example:
    >>> from experiments.harness.answers import in_one
    >>> in_one(["run a --only 'b, c'", "run a --only d --jobs 2", "run a --only d", "run e"])
    ["run a --only 'b, c' d", 'run a --only d --jobs 2', 'run e']
    """
    parts: dict[tuple[str, ...], list[str]] = {}
    for command in commands:
        before, _, after = command.partition(" --only ")
        own, dashes, rest = after.partition(" --")
        parts.setdefault((before, dashes + rest), []).extend(shlex.split(own))
    return [
        f"{before}{' --only ' * bool(own)}{shlex.join(dict.fromkeys(own))}{rest}"
        for (before, rest), own in parts.items()
    ]


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


def show(options: Namespace, kept: Iterable[tuple[Path, pd.DataFrame, Callable[[], str]]]) -> None:
    """Prints the answer of each folder, or with --audit what its runs cannot claim.

    Args:
        options: Of `table`.
        kept: `(folder, runs, () -> answer)`.

    Raises:
        ValueError: The audit found something.
    """
    found = 0
    for folder, runs, answer in kept:
        if not getattr(options, "audit", False):
            print(f"### {folder}\n\n{answer()}")
            continue
        findings = audit(runs)
        found += len(findings)
        print(f"### {folder}: {len(findings) or 'no'} findings")
        print("".join(f"- {finding}\n" for finding in findings))
    if found:
        raise ValueError(f"the audit has {found} findings: these frames do not carry all they show")
