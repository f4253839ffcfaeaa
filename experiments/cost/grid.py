"""grid: a run of a comparison, and stock `fit`, over a whole epoch in a hand-written loop, on the same batches."""

import functools
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import keras
import numpy as np
import pandas as pd

import layerwise
from experiments.cost.by_hand import RATE, compiled, hand_written
from experiments.cost.part import Part
from experiments.cost.settings import Settings
from experiments.harness import figures, markdown, models
from experiments.harness.data import load
from experiments.harness.networks import dense
from experiments.harness.timing import summary
from layerwise.comparison.budget import Plan
from layerwise.comparison.grid import Cell, Grid
from layerwise.comparison.planner import Planner
from layerwise.comparison.trainer import Trainer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EPOCHS = 4
SCHEDULES: dict[str, Callable[[], layerwise.Schedule]] = {
    "simultaneous": layerwise.Simultaneous,
    "block-coordinate": layerwise.BlockCoordinate,
    "sweep": functools.partial(layerwise.BlockCoordinate, sweep_each_batch=True),
}


def measure(settings: Settings) -> list[dict]:
    """Rows of each network: seconds of an Update by each way, their ratios, and where the seconds of a run go.

    Shares are of a schedule's first run of four epochs, which compiles: compilation; evaluations; set-up, which makes the
    run's first weights and puts everything back; and of a run that moves all blocks, dispatch: what its steps take longer
    than hand-written ones.
    """
    _, digits, classes = load("digits")
    shape = digits.train[0].shape[1:]
    wide = functools.partial(dense, 4, 512)
    x = np.random.default_rng(0).standard_normal((2560, 512), dtype="float32")
    part = x, (np.arange(len(x)) % 512).astype("int32")
    tasks = {
        "digits mlp": (functools.partial(models.mlp, shape, classes), digits, 64),
        "digits convnet": (functools.partial(models.convnet, shape, classes), digits, 64),
        "dense 512": (wide, layerwise.Data(part, part, part), 128),
    }
    return [
        {"network": name, **row}
        for name, (build, data, batch_size) in tasks.items()
        for row in of_network(settings, build, data, batch_size)
    ]


def of_network(
    settings: Settings, build: Callable, data: layerwise.Data, batch_size: int
) -> list[dict]:
    """Rows of one network; the ways take turns, run after run."""
    grid = Grid(
        experiment="cost",
        datasets={"data": data},
        models={"model": build},
        schedules=SCHEDULES,
        optimizers={"Adam": keras.optimizers.Adam},
        regularizers=("none",),
        learning_rates={"Adam": (RATE,)},
        tuning_seeds=1,
        seeds=1,
        epochs=EPOCHS,
        batch_size=batch_size,
        budget="epochs",
    )
    planner, cell = Planner(grid), functools.partial(Cell, "data", "model", "none", "Adam")
    trainers = {name: Trainer(grid, cell(name), planner) for name in SCHEDULES}
    steps = data.source.steps(batch_size)
    ways = {name: functools.partial(_run, trainer, steps) for name, trainer in trainers.items()}
    firsts = {name: way() for name, way in ways.items()}
    by_hand, stock = hand_written(build, data, batch_size), _stock(build, data, batch_size)
    for compiling in (by_hand, stock):
        compiling()
    seconds: dict[str, list] = {name: [] for name in (*ways, "hand-written", "stock fit")}
    runs: dict[str, list[dict]] = {name: [] for name in ways}
    for _ in range(5 * settings.repetitions):
        seconds["hand-written"].append(by_hand() / steps)
        seconds["stock fit"].append(stock() / steps)
        for name, way in ways.items():
            runs[name].append(way())
            seconds[name].append(runs[name][-1]["update"])
    rows = []
    for name, values in seconds.items():
        ratios = np.array(values) / np.array(seconds["hand-written"])
        rows.append({"variant": name, "quantity": "update", **summary(values), "unit": "s"})
        rows.append(
            {"variant": name, "quantity": "over hand-written", **summary(ratios), "unit": "ratio"}
        )
    blocks = np.array(seconds["block-coordinate"]) / np.array(seconds["simultaneous"])
    rows.append(
        {
            "variant": "block-coordinate",
            "quantity": "over simultaneous",
            **summary(blocks),
            "unit": "ratio",
        }
    )
    flops = _flops(trainers["block-coordinate"].schedule, data, batch_size)
    rows.append(
        {"variant": "block-coordinate", "quantity": "FLOP ratio", "value": flops, "unit": "ratio"}
    )
    hand = float(np.median(seconds["hand-written"]))
    for name, first in firsts.items():
        again = pd.DataFrame(runs[name]).median()
        parts = {"compilation": first["compile"]}
        parts |= {part: again[part] for part in ("evaluation", "set-up")}
        if name == "simultaneous":
            parts["dispatch"] = max(0.0, (again["update"] - hand) * again["updates"])
        whole = first["compile"] + again["wall"]
        rows += [
            {
                "variant": name,
                "quantity": f"share of {part}",
                "value": value / whole,
                "unit": "share",
            }
            for part, value in parts.items()
        ]
    return rows


def _run(trainer, steps):
    """A run as a comparison makes it: the seconds of an Update, and those of its parts."""
    start = time.perf_counter()
    outcome = trainer.run({"learning_rate": RATE}, 0, Plan(EPOCHS, EPOCHS * steps))
    wall = time.perf_counter() - start
    if outcome.status != "finished":
        raise RuntimeError(outcome.error)
    last = outcome.evaluations[-1]
    return {
        "wall": wall,
        "compile": outcome.compile_seconds,
        "updates": last.update,
        "update": last.train_seconds / last.update,
        "evaluation": outcome.evaluation_seconds,
        "set-up": wall - outcome.compile_seconds - last.train_seconds - outcome.evaluation_seconds,
    }


def _stock(build, data, batch_size):
    """Returns a call that takes the seconds of an epoch of stock `fit`, from its first to its last batch."""
    model, times = compiled(build), {}
    rows = next(data.source.epochs(0, batch_size))
    x, y = data.source.batch(rows.ravel())

    def heard(batch, logs):
        times.setdefault(batch, time.perf_counter())

    def epoch():
        times.clear()
        clock = keras.callbacks.LambdaCallback(on_train_batch_end=heard)
        clock.async_safe = True  # else JAX waits for every step
        model.fit(x, y, batch_size=batch_size, shuffle=False, verbose=0, callbacks=[clock])
        return (times[len(rows) - 1] - times[0]) / (len(rows) - 1) * len(rows)

    return epoch


def _flops(schedule, data, batch_size):
    """The mean FLOPs of a block's Update over those of one that moves all blocks."""
    x, y, _ = data.source.first(batch_size)
    n = len(schedule.blocks)
    blocks = [schedule.flops(layerwise.Update((k,)), x, y) for k in range(n)]
    return np.mean(blocks) / schedule.flops(layerwise.Update(tuple(range(n))), x, y)


def figure(table: pd.DataFrame) -> "Figure":
    """Seconds of an Update over the hand-written loop's."""
    here = table[table["quantity"].eq("over hand-written") & table["variant"].ne("hand-written")]
    networks, backends = list(here["network"].unique()), figures.backends_of(here)
    drawn, axes = figures.subplots(len(networks), len(backends), 2.6, 1.4, sharex="row")
    for row, network in enumerate(networks):
        for ax, backend in zip(axes[row], backends, strict=True):
            rows = here.query("network == @network and backend == @backend")
            if rows.empty:
                ax.set_visible(False)
                continue
            figures.dots(ax, rows["variant"], rows, figures.colors()[backend], "ratio")
            ax.axvline(1, **figures.LIMIT)
            ax.set(title=f"{backend}: {network}", xlim=(0, None))
    figures.label_edges(axes, "an Update / a hand-written step", "")
    drawn.suptitle(
        "A run of the grid, and stock fit, over a whole epoch in a hand-written loop (median, quartiles)"
    )
    return drawn


def answer(rows: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Each way over the hand-written loop, block over simultaneous steps, and the shares of a run."""
    shown = rows[rows["quantity"].ne("update") & rows["variant"].ne("hand-written")]
    for _, row in shown.iterrows():
        what = f"{row['variant']} {row['quantity']}, {row['network']}"
        yield what, markdown.median(row)


PART = Part("grid", measure, {"grid": figure}, answer)
