"""Stored searches: every trial of a comparison in one Optuna database beside its fits.

    studies.db   SQLite; `optuna.load_study(storage="sqlite:///comparison/studies.db", ...)`

A search is asked and told in memory, in the order in which it was made, and takes the values of
trials that are stored; so a killed search comes to the same trials as an undisturbed one, though a
sampler's random numbers are in no database. A trial is stored in one transaction when its fits are
judged: there are no half trials to clean up.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from experiments.fits import fit_key
from experiments.runs import TrainConfig

if TYPE_CHECKING:
    import optuna

STUDIES = "studies.db"
_SECONDS_TO_WAIT = 60  # for another comparison that writes


@dataclasses.dataclass(frozen=True)
class StudyStore:
    """The database of the searches of a comparison.

    Attributes:
      directory: of the comparison.
    """

    directory: pathlib.Path

    def open(
        self,
        label: str,
        configs: Sequence[TrainConfig],
        space: Mapping[str, Sequence[str | float]],
        num_trials: int,
    ) -> optuna.Study:
        """The study of a search, made if need be.

        Args:
          label: that a reader knows it by.
          configs: fits of a trial before its options are set; they decide, with space and number
            of trials, whether a stored study is of the same search.
          space: option -> values.
          num_trials: that are looked for.
        """
        import optuna  # of the extra `report`

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.directory.mkdir(parents=True, exist_ok=True)
        decisive = [[fit_key(config) for config in configs], dict(space), num_trials]
        digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{self.directory.absolute() / STUDIES}",
            engine_kwargs={"connect_args": {"timeout": _SECONDS_TO_WAIT}},
        )
        study = optuna.create_study(
            storage=storage,
            study_name=f"{label} {digest}",
            direction="maximize",
            load_if_exists=True,
        )
        study.set_user_attr("data_dir", configs[0].data_dir)
        return study
