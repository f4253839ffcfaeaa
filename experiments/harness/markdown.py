"""Markdown: tables, and numbers as an answer shows them."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd


def table(columns: Mapping[str, Iterable[tuple[str, str]]]) -> str:
    """A table with a column for each key, whose cells are pairs of a row's name and a text.

    Rows come in the order in which their names are met first; a column that lacks one has an empty cell there.

    Example:
    >>> from experiments.harness import markdown
    >>> print(markdown.table({"jax": [("step", "1")], "torch": [("step", "2"), ("state", "3")]}))
    |  | jax | torch |
    | --- | --- | --- |
    | step | 1 | 2 |
    | state |  | 3 |
    """
    cells = {header: dict(pairs) for header, pairs in columns.items()}
    names = dict.fromkeys(name for column in cells.values() for name in column)
    body = [[name, *(column.get(name, "") for column in cells.values())] for name in names]
    return markdown_table(["", *cells], body)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown.

    Example:
    >>> from experiments.harness.markdown import markdown_table
    >>> print(markdown_table(["a", "b"], [["1", "2"]]))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def median(row: pd.Series, factor: float = 1) -> str:
    """A row's value to three digits, with its quartiles where it has them.

    Example:
    >>> import pandas as pd
    >>> from experiments.harness import markdown
    >>> markdown.median(pd.Series({"value": 0.00123, "low": 0.001, "high": 0.002}), factor=1e3)
    '1.23 (1 to 2)'
    >>> markdown.median(pd.Series({"value": 0.51234, "low": float("nan")}))
    '0.512'
    """
    text = f"{row['value'] * factor:.3g}"
    if pd.isna(row["low"]):
        return text
    return f"{text} ({row['low'] * factor:.3g} to {row['high'] * factor:.3g})"


def listed(values: Iterable[float], names: Iterable[str]) -> str:
    """Values to two digits, each with its name.

    Example:
    >>> from experiments.harness import markdown
    >>> markdown.listed([0.532, 0.39], ["jax", "torch"])
    '0.53 (jax), 0.39 (torch)'
    """
    return ", ".join(f"{value:.2g} ({name})" for value, name in zip(values, names, strict=True))
