"""A whole job of `clsd-train`: teacher, scores and student, as far as the method has them."""

from __future__ import annotations

import pathlib
import shutil

from worker_protocol import serve

from data_pipeline.cli import load_tensorflow


class OwnJob:
    """Options: "prepared", "model_dir", "rows", "batch_size", and "config" of the run."""

    def prepare(self, options: dict) -> dict:
        """Loads what is needed."""
        load_tensorflow()
        self._options = options
        return {}

    def run(self, steps: int) -> int:
        """Trains from nothing to a finished run."""
        from data_pipeline.manifest import data_checksum
        from experiments.arms import get_arm
        from experiments.runs import Run, TrainConfig
        from experiments.training import train_run

        directory = pathlib.Path(self._options["model_dir"])
        config = dict(self._options["config"])
        arm = get_arm(config["method"])
        options = arm.with_options(config.pop("options", {}))
        for _ in range(steps):
            shutil.rmtree(directory, ignore_errors=True)
            run = Run(directory)
            whole = TrainConfig(
                data_dir=self._options["prepared"],
                data=data_checksum(self._options["prepared"]),
                batch_size=self._options["batch_size"],
                options=options,
                **config,
            )
            run.begin(whole, overwrite=False)
            train_run(run, whole, checkpoint_steps=1000)
        return steps * self._options["rows"]


if __name__ == "__main__":
    serve(OwnJob())
