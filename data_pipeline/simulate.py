r"""Simulates a click log in which it is known how much interest is behind each click.

python -m data_pipeline.simulate --output_dir=simulated --rows=200000 --seed=0
python -m data_pipeline.simulate --output_dir=noisy --noise_rates=.05,.10,.20,.35 \
    --format=csv
python -m data_pipeline.simulate --output_dir=falling --noise=interest:.4
python -m data_pipeline.simulate --output_dir=rehearsal --spec=kuairand

Writes the log, its `spec.toml`, and the truth about each impression in `truth/truth.parquet`, which
no spec names. With --spec the log and its side tables have the columns of that spec, so that a job
can be rehearsed before the real log is at hand. Then: `clsd-prepare`.
"""

from __future__ import annotations

import pathlib

from absl import flags

from data_pipeline.cli import run_main, write_results
from data_pipeline.noise_base import NoiseError
from data_pipeline.noise_kinds import InterestNoise, parse_noise
from data_pipeline.progress import steps

_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Directory of the log; made if need be.")
_SPEC = flags.DEFINE_string(
    "spec", None, "A spec's path or the name of a ready one; by default a spec is written."
)
_ROWS = flags.DEFINE_integer("rows", 200_000, "Impressions.", 1)
_USERS = flags.DEFINE_integer("users", 5_000, "Users.", 1)
_ITEMS = flags.DEFINE_integer("items", 2_000, "Items.", 8)
_CATEGORIES = flags.DEFINE_integer("categories", 20, "Categories of items.", 1)
_DAYS = flags.DEFINE_integer(
    "days", None, "Days; by default 10, or as many as the split of --spec needs.", 1
)
_SEED = flags.DEFINE_integer("seed", 0, "Of everything that is drawn.", 0)
_NOISE_RATES = flags.DEFINE_list(
    "noise_rates",
    [".05", ".10", ".20", ".35"],
    "For each group of users, from the least active to the most: the chance that an impression "
    "without interest is clicked.",
)
_NOISE = flags.DEFINE_string(
    "noise",
    None,
    "Other noise instead: interest:RATE, at RATE * (1 - p) where p is the chance of interest. "
    "Items or columns are made noisy by `clsd-prepare --noise`.",
)
_FORMAT = flags.DEFINE_enum(
    "format", "parquet", ["parquet", "csv"], "Of the log where the spec leaves it open."
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace a simulated log in output_dir.")
flags.mark_flags_as_required(["output_dir"])


@flags.validator("noise_rates", message="must be numbers in [0, 1) with commas between them.")
def _are_rates(texts: list[str]) -> bool:
    try:
        return bool(texts) and all(0 <= float(text) < 1 for text in texts)
    except ValueError:
        return False


@flags.validator("noise")
def _is_known_noise(text: str | None) -> bool:
    if text is None:
        return True
    try:
        kind = parse_noise(text)
    except NoiseError as error:
        raise flags.ValidationError(str(error)) from error
    if not isinstance(kind, InterestNoise):
        raise flags.ValidationError(
            f"A log is simulated with noise of user groups or interest. Received: {text!r}. "
            f"Expected: {InterestNoise.form}, or --noise_rates; for other noise --noise of "
            "`clsd-prepare`."
        )
    return True


@flags.multi_flags_validator(
    ["noise", "noise_rates"], message="one kind of noise; leave one flag out."
)
def _is_one_kind(values: dict[str, object]) -> bool:
    return values["noise"] is None or not flags.FLAGS["noise_rates"].present


def main(argv: list[str]) -> None:
    """Simulates by the flags."""
    del argv
    from clsd_tf.spec import parse_spec
    from data_pipeline.datasets import spec_path
    from data_pipeline.simulated_days import DEFAULT_DAYS
    from data_pipeline.simulated_files import write_simulation
    from data_pipeline.simulated_log import simulate_log
    from data_pipeline.simulated_spec import default_spec
    from data_pipeline.simulation import WorldSize

    rates = [float(text) for text in _NOISE_RATES.value]
    if _SPEC.value is None:
        source, text = "spec.toml", default_spec(len(rates), _DAYS.value or DEFAULT_DAYS)
    else:
        source = str(spec_path(_SPEC.value))
        text = pathlib.Path(source).read_text(encoding="utf-8")
    spec = parse_spec(text, source=source)
    noise = parse_noise(_NOISE.value) if _NOISE.value else None
    falling = noise.rate if isinstance(noise, InterestNoise) else None  # the flag takes no other
    size = WorldSize(_ROWS.value, _USERS.value, _ITEMS.value, _CATEGORIES.value, _SEED.value)
    output_dir = pathlib.Path(_OUTPUT_DIR.value)
    with steps() as begin:
        begin(f"Simulating {size.rows:,} impressions")
        simulated = simulate_log(spec, size, rates, _DAYS.value, interest_noise=falling)
        begin(f"Writing {output_dir}")
        files = write_simulation(
            simulated,
            spec,
            text,
            output_dir,
            csv=_FORMAT.value == "csv",
            overwrite=_OVERWRITE.value,
        )
    config = {
        "spec": _SPEC.value,
        "rows": size.rows,
        "users": size.users,
        "items": size.items,
        "categories": size.categories,
        "days": simulated.days,
        "seed": size.seed,
        "noise_rates": None if _NOISE.value else rates,
        "noise": _NOISE.value,
    }
    metrics = {"files": files, **simulated.summary()}
    write_results(output_dir / "results.json", config=config, metrics=metrics)


def cli() -> None:
    """Entry point of the console script `clsd-simulate`."""
    run_main(main)


if __name__ == "__main__":
    cli()
