"""The search for an arm's options: the same number of trials for every arm, on validation rows.

The search is seeded, its fits are cached, and its trials are stored (`experiments.studies`): a
killed comparison replays it in no time and comes to the same trials as an undisturbed one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from experiments.arms import LEARNING_RATES, Values
from experiments.runs import TrainConfig
from experiments.variants import Variant

if TYPE_CHECKING:
    import optuna

Options = dict[str, str | float]

# An option that was tried before is no trial; the search is over when it finds nothing else.
_ASKED_PER_TRIAL = 20


@dataclasses.dataclass(frozen=True)
class Trial:
    """Options that were tried, and how they did: higher is better."""

    options: Options
    value: float


def search_space(variant: Variant) -> dict[str, Values]:
    """Values that are tried for each option of an arm, but for those that its variant sets."""
    space = {**LEARNING_RATES, **variant.entry.search}
    return {name: values for name, values in space.items() if name not in variant.options}


def first_options(variant: Variant) -> Options:
    """Where the search begins: the arm as it is without one."""
    defaults: Options = {
        field.name: field.default
        for field in dataclasses.fields(TrainConfig)
        if field.default is not dataclasses.MISSING
    }
    known = {**defaults, **variant.entry.options}
    # Options of an objective have their defaults there: its search begins with their first values.
    return {name: known.get(name, values[0]) for name, values in search_space(variant).items()}


def search(
    space: Mapping[str, Values],
    first: Options,
    num_trials: int,
    evaluate: Callable[[Options], float],
    stored: optuna.Study,
) -> list[Trial]:
    """Tries `first` and then what Optuna's TPE suggests; no options twice.

    Args:
      space: option -> values.
      first: tried first.
      num_trials: different options to try; fewer if the space has fewer.
      evaluate: of options; higher is better.
      stored: study of the same search, whose trials are not evaluated again; new ones are added.

    Returns:
      The trials in the order in which they were made.
    """
    import optuna  # of the extra `report`; the plan of a comparison goes without

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=0, n_startup_trials=max(1, num_trials // 2))
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.enqueue_trial(first)
    choices = {
        name: optuna.distributions.CategoricalDistribution(values) for name, values in space.items()
    }
    known = {_key(trial.params): trial.value for trial in stored.get_trials(deepcopy=False)}
    trials: dict[tuple, Trial] = {}
    for _ in range(num_trials * _ASKED_PER_TRIAL):
        asked = study.ask(choices)
        key = _key(asked.params)
        if key not in trials:
            value = known[key] if key in known else evaluate(asked.params)
            trials[key] = Trial(dict(asked.params), value)
            if key not in known:
                stored.add_trial(
                    optuna.trial.create_trial(
                        params=asked.params, distributions=choices, value=value
                    )
                )
        study.tell(asked, trials[key].value)
        if len(trials) == num_trials:
            break
    return list(trials.values())


def _key(options: Mapping[str, str | float]) -> tuple:
    return tuple(sorted(options.items()))


def best(trials: list[Trial]) -> Trial:
    """The trial of the highest value, the earliest of equals."""
    return max(trials, key=lambda trial: trial.value)
