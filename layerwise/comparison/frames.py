"""The frames of a comparison: their columns, the rows of a run, and how they are kept on disk."""

import functools
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from layerwise.backends import backend
from layerwise.comparison.data import SPLITS
from layerwise.comparison.files import readable, write_atomically
from layerwise.comparison.outcome import Outcome
from layerwise.comparison.settings import knobs_of
from layerwise.diagnostics.record import COLUMNS
from layerwise.version import __version__

SCORES = [f"{split}_{score}" for split in SPLITS for score in ("loss", "score")]
KEY = ["dataset", "model", "schedule", "optimizer", "regularizer"]
TASK = ["dataset", "model", "regularizer", "optimizer"]
_TEXT = [
    *("experiment", "dataset", "model", "schedule", "optimizer", "regularizer", "phase"),
    *("budget", "tuned_for", "metric", "direction", "backend", "device", "status", "error"),
    *("run_id", "layerwise_version", "keras_version", "git_commit", "started_at"),
]
_INTEGER = [
    *("n_blocks", "batch_size", "epochs", "seed", "jobs", "updates", "examples", "flops"),
    "planned_flops",
    *("optimizer_state_bytes", "peak_memory_bytes"),
    *("epochs_to_target", "updates_to_target", "flops_to_target", "best_epoch"),
]
RUN_COLUMNS = [
    # identity
    *("experiment", "dataset", "model", "n_blocks", "schedule", "optimizer", "regularizer"),
    *("learning_rate", "batch_size", "epochs", "budget", "seed", "phase", "tuned_for"),
    *("backend", "device", "jobs"),
    # outcome
    *("status", "error"),
    # cost
    *(
        "updates",
        "examples",
        "flops",
        "planned_flops",
        "planned_seconds",
        "train_seconds",
        "compile_seconds",
    ),
    *("optimizer_state_bytes", "peak_memory_bytes"),
    # convergence
    *(
        "metric",
        "direction",
        "target",
        "reached",
        "epochs_to_target",
        "updates_to_target",
        "flops_to_target",
    ),
    *("seconds_to_target", "area_under_curve"),
    # generalization
    *SCORES,
    "best_epoch",
    *(f"best_{score}" for score in SCORES),
    *("best_validation_score_error", "generalization_gap", "score_gap"),
    # provenance
    *("run_id", "layerwise_version", "keras_version", "git_commit", "started_at"),
]
CURVE_COLUMNS = [
    *("run_id", "epoch", "update", "examples", "flops", "train_seconds", "split", "loss"),
    "score",
]
PROBE_COLUMNS = ["run_id", *COLUMNS]


def environment() -> dict[str, str]:
    """Backend and device: part of a run's identity."""
    return {"backend": keras.backend.backend(), "device": backend.device()}


def provenance() -> dict[str, str | None]:
    """Versions, commit and time, which go with every row."""
    return {
        "layerwise_version": __version__,
        "keras_version": keras.__version__,
        "git_commit": _git_commit(),
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def curve_of(run_id: str, outcome: Outcome) -> pd.DataFrame:
    """The rows of `curves` that a run brings: one for each evaluation and split."""
    rows = [
        {
            "run_id": run_id,
            "epoch": evaluation.epoch,
            "update": evaluation.update,
            "examples": evaluation.examples,
            "flops": evaluation.flops,
            "train_seconds": evaluation.train_seconds,
            "split": split,
            "loss": evaluation.scores[split][0],
            "score": evaluation.scores[split][1],
        }
        for evaluation in outcome.evaluations
        for split in SPLITS
    ]
    return curve_frame(rows)


def probes_of(run_id: str, outcome: Outcome) -> pd.DataFrame:
    """The rows of `probes` that a run brings."""
    rows = [probe.assign(run_id=run_id) for probe in outcome.probes if len(probe)]
    return probe_frame(pd.concat(rows) if rows else [])


def row_of(identity: dict[str, Any], outcome: Outcome) -> dict[str, Any]:
    """The row of `runs` that a run brings, but for its target: cost, end and best epoch."""
    row = {**identity, "status": outcome.status, "error": outcome.error}
    row |= {
        "metric": outcome.metric,
        "direction": outcome.direction,
        "n_blocks": outcome.n_blocks,
        "compile_seconds": outcome.compile_seconds,
        "optimizer_state_bytes": outcome.optimizer_state_bytes,
    }
    if outcome.evaluations:
        last = outcome.evaluations[-1]
        row |= {
            "updates": last.update,
            "examples": last.examples,
            "flops": last.flops,
            "train_seconds": last.train_seconds,
        }
    best = outcome.best
    if best is not None:
        row |= {"best_epoch": best.epoch} | _scores(best, "best_")
        row["best_validation_score_error"] = outcome.standard_error
    if outcome.status == "finished":
        row |= _scores(last, "")
        scores = [e.scores["validation"][1] for e in outcome.evaluations if e.epoch]
        row["area_under_curve"] = float(np.mean(scores))
        row["generalization_gap"] = row["test_loss"] - row["train_loss"]
        row["score_gap"] = outcome.sign * (row["train_score"] - row["test_score"])
    return row


def with_target(
    row: dict[str, Any], curve: pd.DataFrame, targets: Sequence[float] | None
) -> dict[str, Any]:
    """The row with its target and what it took: empty where it was missed, never the cap.

    The evaluation before training reaches nothing, and a run that did not finish misses.

    Args:
        row: A row of `runs` without its target.
        curve: Its rows of `curves`.
        targets: One for each validation part, of which the run of seed s has the one at `s % len(targets)`.
    """
    target = None if targets is None else targets[row["seed"] % len(targets)]
    validation = curve[(curve["split"] == "validation") & (curve["epoch"] > 0)]
    sign = -1 if row["direction"] == "min" else 1
    goal = np.inf
    if target is not None and not pd.isna(target) and row["status"] == "finished":
        goal = sign * target
    there = validation[sign * validation["score"] >= goal]
    first = None if there.empty else there.iloc[0]
    clocks = {"epochs": "epoch", "updates": "update", "flops": "flops", "seconds": "train_seconds"}
    return {
        **row,
        "target": target,
        "reached": first is not None,
        **{
            f"{name}_to_target": None if first is None else first[column]
            for name, column in clocks.items()
        },
    }


def sign_of(runs: pd.DataFrame) -> int:
    """1 where a greater score is better in the runs of a task, -1 where a smaller one is; a run that failed before it had
    a metric does not say.
    """
    known = runs["direction"][runs["metric"].notna() & (runs["metric"] != "")]
    return -1 if len(known) and known.iloc[0] == "min" else 1


def metric_of(runs: pd.DataFrame) -> str:
    """What the score of a task's runs is; "score" where no run came so far."""
    named = runs["metric"].dropna()
    named = named[named != ""]
    return str(named.iloc[0]) if len(named) else "score"


def run_frame(rows: Iterable[dict[str, Any]] | pd.DataFrame) -> pd.DataFrame:
    """Rows as the frame `runs`: every column, in its order and type; what was tuned beside the learning rate follows it."""
    frame = pd.DataFrame(rows)
    place = RUN_COLUMNS.index("learning_rate") + 1
    knobs = knobs_of(frame.columns)
    columns = [*RUN_COLUMNS[:place], *knobs, *RUN_COLUMNS[place:]]
    frame = frame.reindex(columns=columns)
    types = dict.fromkeys(RUN_COLUMNS, "float64")
    types |= dict.fromkeys([*_TEXT, *knobs], "str") | dict.fromkeys(_INTEGER, "Int64")
    frame["reached"] = frame["reached"].eq(True)
    return frame.astype(types | {"reached": "bool"})


def curve_frame(rows: Iterable[dict[str, Any]] | pd.DataFrame) -> pd.DataFrame:
    """Rows as the frame `curves`."""
    frame = pd.DataFrame(rows, columns=CURVE_COLUMNS)
    types = dict.fromkeys(("epoch", "update", "examples", "flops"), "Int64")
    types |= {"run_id": "str", "split": "str", "train_seconds": "float64"}
    return frame.astype(types | {"loss": "float64", "score": "float64"})


def probe_frame(rows: Iterable[dict[str, Any]] | pd.DataFrame) -> pd.DataFrame:
    """Rows as the frame `probes`: a Probe's frame, with the run that it is of."""
    frame = pd.DataFrame(rows, columns=PROBE_COLUMNS).reset_index(drop=True)
    text = ("run_id", "quantity", "block", "other", "measure")
    types = dict.fromkeys(PROBE_COLUMNS, "int64") | dict.fromkeys(text, "str")
    return frame.astype(types | {"value": "float64"})


def read_probes(folder: str | Path) -> pd.DataFrame:
    """`probes` as it was written to a folder; an empty frame where there is none."""
    path = Path(folder) / "probes.parquet"
    with readable(path):
        return probe_frame(pd.read_parquet(path) if path.exists() else [])


def read(folder: str | Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`(runs, curves)` as they were written to a folder; empty frames where there are none.

    Where writing was killed after `curves`, `runs` lacks the newest ones: the journal still has them.

    Raises:
        ValueError: A file is damaged, or there are runs without curves.
    """
    rows, points = Path(folder) / "runs.csv", Path(folder) / "curves.parquet"
    if not rows.exists():
        return run_frame([]), curve_frame([])
    with readable(rows):
        text = dict.fromkeys(_TEXT, "str")
        options = {"keep_default_na": False, "na_values": [""]}
        text |= dict.fromkeys(knobs_of(pd.read_csv(rows, nrows=0).columns), "str")
        runs = pd.read_csv(rows, dtype=text, **options)
        runs = run_frame(runs.assign(error=runs["error"].fillna("")))
        if runs["run_id"].isna().any():
            raise ValueError("a row has no run_id")
    with readable(points):
        return runs, curve_frame(pd.read_parquet(points))


def write(folder: str | Path, **frames: pd.DataFrame) -> None:
    """Writes each frame whole or not at all: `.parquet` for `curves`, `probes` and `timings`, else `.csv`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # `curves` and `probes` come before `runs`: a row of `runs` says that the run is there.
    for name in sorted(frames):
        if name in ("curves", "probes", "timings"):
            write_atomically(folder / f"{name}.parquet", frames[name].to_parquet, index=False)
        else:
            write_atomically(folder / f"{name}.csv", frames[name].to_csv, index=False)


def _scores(evaluation, prefix):
    return {
        f"{prefix}{split}_{score}": value
        for split, values in evaluation.scores.items()
        for score, value in zip(("loss", "score"), values, strict=True)
    }


@functools.cache  # the code that runs is the code that was there when the process started
def _git_commit(folder=Path(__file__).parent):
    """The commit of the code in a folder, "-dirty" if it was changed; results beside it are no code."""
    commands = (
        ("git", "rev-parse", "HEAD"),
        ("git", "status", "--porcelain", "-uno", "--", ":/", ":(top,exclude)results"),
    )
    options = {"cwd": folder, "capture_output": True, "text": True, "timeout": 10, "check": True}
    try:
        commit, changed = (subprocess.run(one, **options).stdout.strip() for one in commands)
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}-dirty" if changed else commit
