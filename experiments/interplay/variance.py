"""Which choices explain the test scores: an analysis of variance."""

import itertools

import pandas as pd
import scipy.optimize
import scipy.stats
import statsmodels.formula.api
from statsmodels.stats.anova import anova_lm

from experiments.harness.markdown import markdown_table

FACTORS = ("schedule", "optimizer", "regularizer")
REST = "the rest"  # the last interaction, of all factors, with what is chance in tuning and seeds
CHANCE = 0.05


def effects(runs: pd.DataFrame) -> pd.DataFrame:
    """How much each factor, and each interaction but that of all, explains of the cells' median test scores.

    An analysis of variance (statsmodels, type II) of one number a cell: seeds of a cell share what was tuned, and the
    luck of that tuning. So the residual is the interaction of all factors and chance.

    Returns:
        A row a term, the last `REST`, with the columns `share` of the sum of squares, `F`, `p`, and partial omega squared
        as `omega, low, high`: the share of a term in what it and the residual explain, without what chance adds, with the
        interval that follows from the noncentral F distribution (Steiger, Beyond the F test, 2004). Without rows where
        fewer than two factors vary.
    """
    several = [name for name in FACTORS if runs[name].nunique() > 1]
    columns = ["share", "omega", "low", "high", "F", "p"]
    if len(several) < 2:
        return pd.DataFrame(columns=columns)
    finished = runs[runs["status"] == "finished"]
    medians = finished.groupby(several, as_index=False)["test_score"].median()
    terms = [
        ":".join(f"C({name})" for name in names)
        for count in range(1, len(several))
        for names in itertools.combinations(several, count)
    ]
    model = statsmodels.formula.api.ols(f"test_score ~ {' + '.join(terms)}", medians)
    found = anova_lm(model.fit(), typ=2)
    total, rest, rows = found["sum_sq"].sum(), found.loc["Residual"], {}
    for name, row in found.drop("Residual").iterrows():
        words = str(name).replace("C(", "").replace(")", "").replace(":", " with ")
        words = words.replace("regularizer", "regularization")
        f, df, n = row["F"], row["df"], rest["df"] + row["df"] + 1
        omega = max(df * (f - 1) / (df * (f - 1) + n), 0.0)
        low, high = (effect / (effect + n) for effect in noncentrality(f, df, rest["df"]))
        rows[words] = (row["sum_sq"] / total, omega, low, high, f, row["PR(>F)"])
    rows[REST] = (rest["sum_sq"] / total, *[float("nan")] * 5)
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def table_of(found: pd.DataFrame) -> str:
    """The effects as a Markdown table."""
    lines = [
        [
            name,
            f"{row['share']:.1%}",
            "" if name == REST else f"{row['omega']:.1%} [{row['low']:.1%}, {row['high']:.1%}]",
            "" if name == REST else f"{row['F']:.3g}",
            "" if name == REST else f"{row['p']:.2g}",
        ]
        for name, row in found.iterrows()
    ]
    header = ["what explains the median test score", "share of its variance"]
    return markdown_table([*header, "partial omega squared [95 %]", "F", "p"], lines)


def what_matters(found: pd.DataFrame) -> list[str]:
    """Which terms differ beyond chance, the largest first, in a sentence; none where there is no table.

    Example:
    >>> import pandas as pd
    >>> from experiments.interplay.variance import REST, what_matters
    >>> rows = {"schedule": (0.2, 0.01), "optimizer": (0.1, 0.3), REST: (0.7, float("nan"))}
    >>> (said,) = what_matters(pd.DataFrame.from_dict(rows, orient="index", columns=["share", "p"]))
    >>> said.split("; ")[1]
    'of optimizer no effect beyond chance was seen.'
    """
    terms = found.drop(index=REST, errors="ignore").sort_values("share", ascending=False)
    if terms.empty:
        return []
    clear = terms[terms["p"] < CHANCE]
    unclear = terms.index.difference(clear.index, sort=False)
    parts = []
    if len(clear):
        shares = [f"{name} {100 * share:.0f} %" for name, share in clear["share"].items()]
        shares[0] = shares[0].replace(clear.index[0], f"{clear.index[0]} explains")
        parts.append(
            f"{', '.join(shares)} of the variance of test scores, each combination tuned by itself"
        )
    if len(unclear):
        parts.append(f"of {' and of '.join(unclear)} no effect beyond chance was seen")
    said = "; ".join(parts)
    return [f"{said[0].upper()}{said[1:]}."]


def noncentrality(f: float, terms: float, rest: float, level: float = 0.95) -> tuple[float, float]:
    """The interval of an F statistic's noncentrality, with `terms` and `rest` degrees of freedom.

    Example:
    >>> from experiments.interplay.variance import noncentrality
    >>> low, high = noncentrality(10.0, 2, 100)
    >>> round(float(scipy.stats.ncf.sf(10.0, 2, 100, low)), 4), round(float(scipy.stats.ncf.cdf(10.0, 2, 100, high)), 4)
    (0.025, 0.025)
    >>> noncentrality(0.01, 2, 100)[0]
    0.0
    """
    ends = []
    for share in ((1 + level) / 2, (1 - level) / 2):

        def beyond(effect, share=share):
            return scipy.stats.ncf.cdf(f, terms, rest, effect) - share

        top = 10 * (f * terms + 10)
        ends.append(0.0 if beyond(0.0) < 0 else float(scipy.optimize.brentq(beyond, 0.0, top)))
    return ends[0], ends[1]
