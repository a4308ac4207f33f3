r"""Prepares a click log: raw files in, encoded shards, vocabularies and statistics out.

python -m data_pipeline.prepare --spec=kuairand --input=KuaiRand-Pure/data --output_dir=prepared
python -m data_pipeline.prepare --spec=my_log.toml --input='logs/2022-05-*.parquet' \
    --output_dir=prepared --first_day=2022-05-01 --last_day=2022-05-14 --memory_limit=8GB
python -m data_pipeline.prepare --spec=kuairand --input=KuaiRand-Pure/data --overwrite \
    --output_dir=noisy --noise_rates=.05,.10,.20,.35 --noise_seed=1
python -m data_pipeline.prepare --spec=kuairand --input=KuaiRand-Pure/data --overwrite \
    --output_dir=clickbait --noise=items:.1:.4
python -m data_pipeline.prepare --spec=next_day.toml --input='logs/2022-05-15.parquet' \
    --output_dir=next_day --encoding_from=prepared
python -m data_pipeline.prepare --spec=my_log.toml --input='logs/*.parquet' \
    --output_dir=/shared/prepared --engine=spark --spark_master=spark://host:7077

The spec names the columns of the log once (see `clsd_tf.features`). Rows that cannot be used go to
`quarantine/` with a reason. The directory appears when it is whole. Then: `clsd-train`.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
import time

from absl import flags

from data_pipeline.cli import load_tensorflow, run_main, write_json
from data_pipeline.noise_base import NoiseError
from data_pipeline.noise_kinds import noise_forms, parse_noise

_RESULTS = "results.json"
_SPEC = flags.DEFINE_string("spec", None, "A spec's path, or the name of a ready one (kuairand).")
_INPUT = flags.DEFINE_string(
    "input", None, "A file, a glob in quotes, or a directory in which the spec names the files."
)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Directory of the data set.")
_LAYOUT = flags.DEFINE_enum(
    "layout", "columnar", ["columnar", "row"], "Of shards; `row` is what TFX expects, but slower."
)
_NUM_SHARDS = flags.DEFINE_integer(
    "num_shards", None, "Files of each split; by default one for 100,000 rows.", 1
)
_BLOCK_ROWS = flags.DEFINE_integer("block_rows", 1024, "Rows in a columnar record.", 1)
_FIRST_DAY = flags.DEFINE_string("first_day", None, "Leave out rows of earlier days.")
_LAST_DAY = flags.DEFINE_string("last_day", None, "Leave out rows of later days.")
_NOISE_RATES = flags.DEFINE_list(
    "noise_rates",
    [],
    "Plants noise: the chance, for each user group or for all, that a non-click of training or "
    "validation becomes a click. The truth goes to truth/noise.parquet.",
)
_NOISE = flags.DEFINE_string(
    "noise",
    None,
    f"Plants noise of any kind, the rate last: {noise_forms()}. --noise_rates=.1,.2 is short for "
    "--noise=groups:.1,.2.",
)
_NOISE_SEED = flags.DEFINE_integer("noise_seed", 0, "Of the planted noise.", 0)
_MAX_BAD_FRACTION = flags.DEFINE_float(
    "max_bad_fraction", 0.01, "Stop when a larger share of rows cannot be used.", 0.0, 1.0
)
_ENCODING_FROM = flags.DEFINE_string(
    "encoding_from",
    None,
    "Earlier data set whose vocabularies and other tables are kept, so that a model of it can be "
    "trained on; tokens that are new count as unknown.",
)
_GROW_VOCABULARY = flags.DEFINE_bool(
    "grow_vocabulary",
    False,
    "With --encoding_from: new tokens of training rows get ids behind the old ones, for "
    "`clsd-train --init_from`.",
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the order of training rows.", 0)
_THREADS = flags.DEFINE_integer("threads", None, "Of the engine; by default all processors.", 1)
_MEMORY_LIMIT = flags.DEFINE_string(
    "memory_limit", None, "Of the engine, such as 8GB; what needs more goes to disk."
)
_ENGINE = flags.DEFINE_enum(
    "engine",
    "duckdb",
    ["duckdb", "spark"],
    "What computes. spark: the files are read and checked by DuckDB all the same; what needs all "
    "rows at once, joins, duplicates, histories, vocabularies and order, is done by Spark.",
)
_SPARK_MASTER = flags.DEFINE_string(
    "spark_master", "local[*]", "Where Spark runs, with --engine=spark; it sees output_dir."
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace a data set in output_dir.")
flags.mark_flags_as_required(["spec", "input", "output_dir"])


@flags.validator("noise_rates", message="must be numbers in [0, 1] with commas between them.")
def _are_rates(texts: list[str]) -> bool:
    try:
        return all(0 <= float(text) <= 1 for text in texts)
    except ValueError:
        return False


@flags.validator("noise")
def _is_noise(text: str | None) -> bool:
    try:
        return text is None or bool(parse_noise(text))
    except NoiseError as error:
        raise flags.ValidationError(str(error)) from error


@flags.multi_flags_validator(
    ["noise", "noise_rates"], message="one kind of noise; leave one flag out."
)
def _is_one_kind(values: dict[str, object]) -> bool:
    return not (values["noise"] and values["noise_rates"])


def main(argv: list[str]) -> None:
    """Prepares by the flags."""
    del argv
    _check_places()
    load_tensorflow()
    from data_pipeline.data_set import WriteOptions
    from data_pipeline.preparation import ReadOptions, prepare

    read = ReadOptions(
        max_bad_fraction=_MAX_BAD_FRACTION.value,
        first_day=_FIRST_DAY.value,
        last_day=_LAST_DAY.value,
        threads=_THREADS.value,
        memory_limit=_MEMORY_LIMIT.value,
        engine=_ENGINE.value,
        spark_master=_SPARK_MASTER.value,
    )
    write = WriteOptions(
        layout=_LAYOUT.value,
        num_shards=_NUM_SHARDS.value,
        block_rows=_BLOCK_ROWS.value,
        noise_rates=tuple(float(text) for text in _NOISE_RATES.value),
        noise_seed=_NOISE_SEED.value,
        seed=_SEED.value,
        encoding_from=_ENCODING_FROM.value,
        noise=_NOISE.value,
        grow_vocabulary=_GROW_VOCABULARY.value,
    )
    output_dir = pathlib.Path(_OUTPUT_DIR.value)
    started = time.monotonic()
    config = {
        "spec": _SPEC.value,
        "input": _INPUT.value,
        **dataclasses.asdict(read),
        **dataclasses.asdict(write),
    }

    def add_results(directory: pathlib.Path, statistics: dict[str, object]) -> None:
        metrics = {"seconds": time.monotonic() - started, **statistics}
        results = {"command": sys.orig_argv, "config": config, "metrics": metrics}
        write_json(directory / _RESULTS, results)

    found = prepare(
        _SPEC.value,
        _INPUT.value,
        output_dir,
        read,
        write,
        overwrite=_OVERWRITE.value,
        before_shown=add_results,
    )
    print(
        f"{found['rows_read']:,} rows read, {found['bad_rows']:,} of them bad (in "
        f"{output_dir / 'quarantine'}); {found['duplicates']:,} duplicates; {found['kept']:,} "
        "impressions kept."
    )
    print(output_dir / _RESULTS, flush=True)


def _check_places() -> None:
    """Finds mistakes that need no TensorFlow, whose import takes seconds."""
    from clsd_tf.spec import read_spec
    from data_pipeline.datasets import spec_path
    from data_pipeline.directories import check_free
    from data_pipeline.input_files import find_log

    log = read_spec(spec_path(_SPEC.value))
    find_log(_INPUT.value, log.input.files, [table.file for table in log.tables.values()])
    check_free(_OUTPUT_DIR.value, mark="manifest.json", overwrite=_OVERWRITE.value)
    if _GROW_VOCABULARY.value and not _ENCODING_FROM.value:
        raise ValueError(
            "Vocabularies grow from those of an earlier data set. Received: --grow_vocabulary "
            "without --encoding_from. Expected: both; a new data set learns all of its tokens."
        )


def cli() -> None:
    """Entry point of the console script `clsd-prepare`."""
    run_main(main)


if __name__ == "__main__":
    cli()
