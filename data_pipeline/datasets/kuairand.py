r"""Makes the side table of users' histories that the spec `kuairand` needs from the official logs.

python -m data_pipeline.datasets.kuairand --input=KuaiRand-Pure/data
python -m data_pipeline.datasets.kuairand --input=KuaiRand-Pure/data --overwrite
python -m data_pipeline.prepare --spec=kuairand --input=KuaiRand-Pure/data --output_dir=kuairand

Reads `log_standard_*_pure.csv`, gzipped or not, and writes `user_history_before_4_25_pure.csv`
beside them: for each user the number of impressions before 25 April 2022, and the last videos
among them, oldest first.
"""

from __future__ import annotations

import pathlib

from absl import flags

from data_pipeline.cli import run_main, write_results

_INPUT = flags.DEFINE_string("input", None, "Directory of the official files.", required=True)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace an earlier output.")


def main(argv: list[str]) -> None:
    """Makes the side table by the flags."""
    del argv
    from data_pipeline.datasets.kuairand_histories import write_histories

    metrics = write_histories(_INPUT.value, overwrite=_OVERWRITE.value)
    config = {"input": _INPUT.value}
    write_results(pathlib.Path(_INPUT.value) / "results.json", config=config, metrics=metrics)


def cli() -> None:
    """Entry point of the command."""
    run_main(main)


if __name__ == "__main__":
    cli()
