r"""Turns the official files of MovieLens-100k or 1M into Parquet that the spec `movielens` reads.

python -m data_pipeline.datasets.movielens --input=ml-1m --output_dir=movielens
python -m data_pipeline.datasets.movielens --input=ml-100k --output_dir=movielens --overwrite
python -m data_pipeline.prepare --spec=movielens --input=movielens --output_dir=prepared

100k: `u.data`, `u.user`, `u.item`, `u.genre`. 1M: `ratings.dat`, `users.dat`, `movies.dat`.
Writes `ratings.parquet`, `users.parquet` and `movies.parquet`.
"""

from __future__ import annotations

import pathlib

from absl import flags

from data_pipeline.cli import run_main, write_results

_INPUT = flags.DEFINE_string("input", None, "Directory of the official files.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Directory of the Parquet files.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace an earlier output in output_dir.")
flags.mark_flags_as_required(["input", "output_dir"])


def main(argv: list[str]) -> None:
    """Converts by the flags."""
    del argv
    from data_pipeline.datasets.movielens_files import convert

    rows = convert(_INPUT.value, _OUTPUT_DIR.value, overwrite=_OVERWRITE.value)
    write_results(
        pathlib.Path(_OUTPUT_DIR.value) / "results.json",
        config={"input": _INPUT.value, "output_dir": _OUTPUT_DIR.value},
        metrics={"rows": rows},
    )


def cli() -> None:
    """Entry point of the command."""
    run_main(main)


if __name__ == "__main__":
    cli()
