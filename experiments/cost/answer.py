"""The answer in short: what the issue's targets are about, a row for each backend, as Markdown."""

import pandas as pd

from experiments.cost import tables


def markdown(folder):
    """A table of medians (quartiles) for each backend, device and data type."""
    frames = {part: tables.read(folder, part) for part in tables.PARTS}
    if all(frame.empty for frame in frames.values()):
        raise FileNotFoundError(
            f"no tables of cost in {folder}/. Run it first: python -m experiments run cost"
        )
    cells = {}
    for part, frame in frames.items():
        for place, rows in frame.groupby(list(tables.IDENTITY), sort=False):
            cells.setdefault(place, []).extend(_LINES[part](rows))
    table = pd.DataFrame({", ".join(place): dict(lines) for place, lines in cells.items()})
    table = table.reindex(dict.fromkeys(name for lines in cells.values() for name, _ in lines))
    header = ["", *table.columns]
    body = [[name, *row.fillna("")] for name, row in table.iterrows()]
    lines = [header, ["---"] * len(header), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _steps(rows):
    for name, group in rows.groupby("network", sort=False):
        mean = group[group["block"] == "mean"].set_index("quantity")
        yield f"block step / simultaneous step, {name}", _text(mean.loc["step ratio"])
        yield f"by counted FLOPs, {name}", _text(mean.loc["FLOP ratio"])
        yield (
            f"switching every step / never, {name}",
            _text(_one(group, quantity="switching ratio")),
        )


def _switches(rows):
    for variant in ("keep", "reset", "drop", "trainable and compile"):
        yield (
            f"ms a switch takes, {variant}",
            _text(_one(rows, variant=variant, quantity="switch"), 1e3),
        )


def _programs(rows):
    most = rows["n_blocks"].max()
    found = rows[rows["n_blocks"] == most].pivot(
        index="variant", columns="quantity", values="value"
    )
    ratios = found["compile"] / found.loc["simultaneous", "compile"]
    for variant in found.index[found["programs"] > 1]:  # torch compiles none
        name = f"compiling a sweep of {most} blocks / a simultaneous step, {variant}"
        yield name, f"{ratios[variant]:.3g}"


def _memory(rows):
    states = rows[
        rows["quantity"].isin(["optimizer state", "largest block"])
        & rows["variant"].isin(["simultaneous", "drop"])
    ]
    for (network, variant), group in states.groupby(["network", "variant"], sort=False):
        held = group.set_index("quantity")["value"]
        ratio = held["optimizer state"] / held["largest block"]
        yield f"optimizer state / largest block, {network}, {variant}", f"{ratio:.3g}"


def _greedy(rows):
    runs = rows[
        rows["quantity"].eq("run over a simultaneous run") & rows["variant"].ne("simultaneous")
    ]
    for _, row in runs.iterrows():
        yield f"greedy run / simultaneous run of a stage's epochs, {row['variant']}", _text(row)


def _baselines(rows):
    ratios = rows[rows["quantity"].eq("step over layerwise") & rows["variant"].ne("layerwise")]
    for _, row in ratios.iterrows():
        yield f"step of {row['variant']} / ours, visits of {row['every']:g}", _text(row)


def _one(rows, **columns):
    for column, value in columns.items():
        rows = rows[rows[column] == value]
    return rows.iloc[0]


def _text(row, factor=1):
    text = f"{row['value'] * factor:.3g}"
    if pd.isna(row["low"]):
        return text
    return f"{text} ({row['low'] * factor:.3g} to {row['high'] * factor:.3g})"


_LINES = {
    "steps": _steps,
    "switches": _switches,
    "programs": _programs,
    "memory": _memory,
    "greedy": _greedy,
    "baselines": _baselines,
}
