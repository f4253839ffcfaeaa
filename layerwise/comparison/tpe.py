"""Tuning by Optuna: each setting is asked of its tree-structured Parzen estimator, which is told of those before.

Source: Bergstra, Bardenet, Bengio, Kégl, Algorithms for Hyper-Parameter Optimization (NeurIPS 2011), section 4.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from layerwise.comparison import settings
from layerwise.comparison.settings import Setting

ATTEMPTS = 100  # at a setting that was not tried before


def check_installed() -> None:
    """Raises ImportError where Optuna is missing."""
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "tuner='optuna' needs Optuna: pip install 'layerwise[optuna]', or take tuner='grid'."
        ) from error


def space(values: Mapping[str, tuple]) -> dict[str, Any]:
    """Optuna's distribution of each argument: numbers range from the least to the largest that was given, on a logarithmic
    scale where all are positive; other values, and a single one, are chosen among.

    Example:
    >>> from layerwise.comparison.tpe import space
    >>> space({"schedule.every": (1, 100), "schedule.order": ("cyclic", "random")})  # doctest: +SKIP
    {'schedule.every': IntDistribution(high=100, log=True, low=1, step=1),
     'schedule.order': CategoricalDistribution(choices=('"cyclic"', '"random"'))}
    """
    from optuna import distributions

    found: dict[str, Any] = {}
    for name, given in values.items():
        if not settings.numeric(given) or len(given) < 2:
            texts = [settings.as_text(value) for value in given]
            found[name] = distributions.CategoricalDistribution(texts)
            continue
        whole = all(isinstance(value, int) for value in given)
        kind = distributions.IntDistribution if whole else distributions.FloatDistribution
        found[name] = kind(min(given), max(given), log=min(given) > 0)
    return found


def contains(values: Mapping[str, tuple], setting: Setting) -> bool:
    """Whether a setting may be asked for, with these values given.

    Example:
    >>> from layerwise.comparison.tpe import contains
    >>> values = {"learning_rate": (0.001, 0.1), "schedule.order": ("cyclic", "random")}
    >>> contains(values, {"learning_rate": 0.02, "schedule.order": "random"})
    True
    >>> contains(values, {"learning_rate": 0.2, "schedule.order": "random"})
    False
    """
    if set(setting) != set(values):
        return False
    return all(
        min(values[name]) <= value <= max(values[name])
        if settings.numeric(values[name]) and settings.numeric([value])
        else settings.as_text(value) in map(settings.as_text, values[name])
        for name, value in setting.items()
    )


def ask(
    values: Mapping[str, tuple], tried: Sequence[tuple[Setting, float]], count: int
) -> Setting | None:
    """The setting to try next: a function of those before, so that what was interrupted goes on as if it had not been.

    Args:
        values: `{argument: values}`, which give the ranges.
        tried: The settings before, in order, each with what is to be small; infinite where it cannot be told.
        count: How many are tried in all. The first third are random; the same ones for all who have the same ranges.

    Returns:
        A setting, with six digits of each number; `None` where nothing new comes up.

    Example:
    >>> from layerwise.comparison.tpe import ask
    >>> first = ask({"learning_rate": (0.001, 0.1)}, [], 6)  # doctest: +SKIP
    {'learning_rate': 0.0125207}
    """
    import optuna

    ranges = space(values)
    known = {settings.key_of(setting) for setting, _ in tried}
    loud = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study()
        for setting, value in tried:
            params = {name: _param(ranges[name], given) for name, given in setting.items()}
            trial = optuna.trial.create_trial(params=params, distributions=ranges, value=value)
            study.add_trial(trial)
        startup = -(-count // 3)
        study.sampler = optuna.samplers.TPESampler(seed=len(tried), n_startup_trials=startup)
        for attempt in range(ATTEMPTS):
            if attempt:  # where there are few settings, it asks for the best of them again
                study.sampler = optuna.samplers.RandomSampler(len(tried) + count * attempt)
            found = study.ask(ranges).params
            setting = {name: _value(ranges[name], value) for name, value in found.items()}
            if settings.key_of(setting) not in known:
                return setting
    finally:
        optuna.logging.set_verbosity(loud)
    return None


def _param(distribution, value):
    return settings.as_text(value) if hasattr(distribution, "choices") else value


def _value(distribution, param):
    if hasattr(distribution, "choices"):
        return json.loads(param)
    if isinstance(param, int):
        return param
    return min(max(float(f"{param:.6g}"), distribution.low), distribution.high)
