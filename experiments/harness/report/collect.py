"""What the results hold: each folder with an answer, and its frames."""

import dataclasses
import functools
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd

VERSIONS = ("backend", "device", "layerwise_version", "keras_version", "git_commit")


@dataclasses.dataclass(frozen=True)
class Answered:
    """An experiment that was carried out.

    Attributes:
        folder: Where its answer, frames and figures are.
        root: The folder of all results.
    """

    folder: Path
    root: Path

    @property
    def name(self) -> str:
        """Of the experiment."""
        return self.folder.name

    @property
    def where(self) -> str:
        """Its folder below the results, as in "mnist/convergence"."""
        return self.folder.relative_to(self.root).as_posix()

    @functools.cached_property
    def text(self) -> str:
        """Its answer, in Markdown."""
        return (self.folder / "answer.md").read_text(encoding="utf-8")

    @property
    def title(self) -> str:
        """The question that it answers: the heading of its answer, else where it is."""
        heading = re.match(r"# (.*)", self.text)
        return heading[1] if heading else self.where

    @property
    def short(self) -> str:
        """What the answer says in short, see `in_short`."""
        return in_short(self.text)

    @property
    def figures(self) -> list[Path]:
        """The drawn figures: those that the answer shows, then what it costs to reach a target, then the others."""
        shown = [self.folder / name for name in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", self.text)]
        rest = [path for path in self.folder.glob("*.png") if path not in shown]
        rest.sort(key=lambda path: (not path.name.startswith("cost-"), path.name))
        return [path for path in shown if path.exists()] + rest

    @functools.cached_property
    def frames(self) -> dict[str, pd.DataFrame]:
        """`{name: frame}` of its CSV files."""
        paths = sorted(self.folder.glob("*.csv"))
        return {path.stem: pd.read_csv(path, low_memory=False) for path in paths}

    @property
    def settings(self) -> dict[str, Any]:
        """What a comparison was told; empty for other experiments."""
        path = self.folder / "settings.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    @property
    def is_comparison(self) -> bool:
        """Whether it has runs with learning curves."""
        return (self.folder / "curves.parquet").exists() and "runs" in self.frames


def find(root: Path) -> list[Answered]:
    """All answers below a folder, those of the full scale and the shortest paths first; quick ones are left out.

    Raises:
        FileNotFoundError: There is none.
    """
    paths = sorted(root.rglob("answer.md"), key=lambda path: (len(path.parts), path))
    found = [Answered(path.parent, root) for path in paths]
    found = [one for one in found if not re.search(r"(^|[/-])quick/", f"{one.where}/")]
    if not found:
        raise FileNotFoundError(
            f"there is no answer.md under {root}/. Carry out an experiment first: python -m experiments run NAME"
        )
    return found


def in_short(text: str) -> str:
    r"""What follows a bold "In short" in an answer: the rest of its paragraph, or the next one where it stands by itself;
    without one the first plain paragraph; "" where there is none.

    Example:
    >>> from experiments.harness.report.collect import in_short
    >>> in_short("> Why?\n\n**In short.** It does not pay.\n\n| a |")
    'It does not pay.'
    >>> in_short("# Why?\n\n**In short**\n\n- It does not pay.\n\nMore.")
    '- It does not pay.'
    >>> in_short("# Title\n\n| a |\n| --- |\n")
    ''
    """
    paragraphs = [one.strip() for one in re.split(r"\n\s*\n", text)]
    for one, following in zip(paragraphs, [*paragraphs[1:], ""], strict=True):
        marked = re.match(r"\*\*In short[.:]?\*\*[.:]?\s*(.*)", one, re.DOTALL | re.IGNORECASE)
        if marked:
            return marked[1] or following
    plain = (one for one in paragraphs if one and not re.match(r"[>#|!\-]|\*\*|```|<", one))
    return next(plain, "")


def provenance(found: list[Answered]) -> pd.DataFrame:
    """With what each experiment was measured: one row for each experiment, backend, device, versions and commit."""
    rows = []
    for one in found:
        for frame in one.frames.values():
            columns = [name for name in VERSIONS if name in frame]
            if "git_commit" not in columns:
                continue
            groups = frame.astype(dict.fromkeys(columns, str)).groupby(columns, sort=False)
            for values, group in groups:
                rows.append(
                    {
                        "experiment": one.where,
                        **dict(zip(columns, values, strict=True)),
                        "rows": len(group),
                    }
                )
    if not rows:
        return pd.DataFrame(columns=["experiment", *VERSIONS, "rows"])
    known = pd.DataFrame(rows).reindex(columns=["experiment", *VERSIONS, "rows"]).fillna("")
    return known.groupby(["experiment", *VERSIONS], sort=False, as_index=False)["rows"].sum()


def unfinished(found: list[Answered]) -> pd.DataFrame:
    """Every run that diverged or failed."""
    columns = [
        "dataset",
        "model",
        "schedule",
        "optimizer",
        "regularizer",
        "learning_rate",
        "seed",
        "phase",
        "status",
        "error",
    ]
    rows = []
    for one in found:
        runs = one.frames.get("runs", pd.DataFrame())
        if "status" in runs:
            bad = runs[runs["status"] != "finished"]
            rows.append(bad.reindex(columns=columns).assign(experiment=one.where))
    if not rows:
        return pd.DataFrame(columns=["experiment", *columns])
    return pd.concat(rows, ignore_index=True)[["experiment", *columns]].fillna("")
