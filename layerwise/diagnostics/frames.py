"""What the frames of all quantities have in common."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

ALL = "all"


def frame(rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> pd.DataFrame:
    """A tidy frame of rows, its columns in order."""
    return pd.DataFrame(list(rows), columns=list(columns))


def ratio(numerator: Any, denominator: Any) -> float:
    """The ratio, NaN where the denominator is zero: there is no such thing then."""
    return float(numerator) / float(denominator) if denominator else float("nan")
