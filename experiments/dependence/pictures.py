"""Pictures: dense, local and convolutional nets on images as they are, shuffled, centred and whitened."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd

import layerwise
from experiments.dependence import looks, nets, pixels
from layerwise.comparison import Comparison, frames, tuning

LOSS = 0.1  # the training loss whose updates are counted
SCALES = {
    "quick": {"seeds": 5, "tuning_seeds": 1, "epochs": 6},
    "full": {"seeds": 10, "tuning_seeds": 1, "epochs": 12},
}
QUICK_FORMS = ("as they are", "whitened")


def run(
    folder: Path,
    name: str,
    data: layerwise.Data,
    n_classes: int,
    scale: str,
    seeds: int | None = None,
) -> None:
    """Trains what is not in the folder yet: every net on every form, its learning rate tuned for each by itself.

    Args:
        folder: Where the frames go.
        name: What the data set is called.
        data: Images with labels.
        n_classes: Number of classes.
        scale: "quick" or "full".
        seeds: Measured runs of each cell, in place of the scale's.
    """
    chosen = QUICK_FORMS if scale == "quick" else pixels.FORMS
    images = pixels.forms(data, chosen)
    models = nets.equal(data.train[0].shape[1:], n_classes)
    counts = {net: build().count_params() for net, build in models.items()}
    frames.write(
        folder,
        pixels=pixels.dependence_of(images),
        nets=pd.DataFrame({"net": list(counts), "parameters": list(counts.values())}),
    )
    settings = SCALES[scale] | ({"seeds": seeds} if seeds else {})
    layerwise.compare(
        models=models,
        data={f"{name}, {form}": one for form, one in images.items()},
        schedules={"simultaneous": layerwise.Simultaneous},
        optimizers={"SGD": keras.optimizers.SGD},
        learning_rates=(0.1, 0.3, 0.9),
        batch_size=64,
        experiment="dependence",
        results=folder,
        **settings,
    )
    looks.run(folder, images, models, settings["seeds"])


def measured(comparison: Comparison) -> pd.DataFrame:
    """One row a measured run, tuned for score: `net, form, seed, learning_rate, updates_to_loss` (infinite where it was
    missed), `test_score`, `score_gap` and `train_loss`.
    """
    columns = ["model", "dataset", "seed", "learning_rate", "test_score", "score_gap", "train_loss"]
    good = tuning.of_purpose(comparison.runs, "score")
    found = good[[*columns, "run_id", "status"]].rename(columns={"model": "net"})
    updates = updates_to(comparison.curves, found["run_id"], LOSS)
    return found.assign(
        updates_to_loss=found["run_id"].map(updates),
        form=found["dataset"].str.partition(", ")[2],
    ).reset_index(drop=True)


def updates_to(curves: pd.DataFrame, run_ids: pd.Series, loss: float) -> pd.Series:
    """The first update after which a run's training loss is at most `loss`, by run; infinite where it never is.

    Example:
    >>> import pandas as pd
    >>> from experiments.dependence.pictures import updates_to
    >>> curves = pd.DataFrame({"run_id": ["a", "a", "b"], "update": [0, 15, 0], "split": "train",
    ...                        "loss": [2.0, 0.05, 2.0]})
    >>> updates_to(curves, pd.Series(["a", "b"]), 0.1).to_dict()
    {'a': 15.0, 'b': inf}
    """
    own = curves[(curves["split"] == "train") & (curves["loss"] <= loss)]
    first = own.groupby("run_id")["update"].min()
    return first.reindex(list(run_ids)).astype("float64").fillna(np.inf)
