r"""Compares ways of learning: any arms, backbones and seeds, with the same budget for each.

python -m experiments.compare --data_dir=prepared --arms=plain,clsd,distillation \
    --backbones=dcn_v2,mlp --num_seeds=5 --output_dir=comparison
python -m experiments.compare --data_dir=prepared --arms=plain,clsd --num_trials=0 \
    --noise_rates=.05,.10,.20,.35 --noise=items:.1:.4 --output_dir=planted --dry_run
python -m experiments.compare --data_dir=prepared --arms=plain,clsd --num_seeds=3 \
    --origins=20220430,20220501,20220502 --output_dir=origins
python -m experiments.compare --data_dir=prepared --output_dir=comparison \
    --input_service=grpc://localhost:7077

Arms are compared with `plain` on validation rows; with --final on test rows too, and each such
reading is noted in `test_readings.jsonl`. Fits are kept in `<output_dir>/fits` and never trained
twice, so that a comparison that was interrupted goes on where it stopped. Leaves `results.json`,
`table.md` and figures. docs/comparing.md says how to read them.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.util
import itertools
import json
import os
import pathlib
import sys

from absl import flags

from clsd_tf.backbones import check_backbone
from data_pipeline.cli import load_tensorflow, run_main, write_results
from data_pipeline.noise_kinds import noise_forms
from data_pipeline.progress import Progress, steps
from data_pipeline.service_client import InputService, ask_service
from experiments.arms import ARMS
from experiments.fits import FitCache, describe_fit
from experiments.plan import Settings, num_fits
from experiments.runs import TrainConfig
from experiments.variants import parse_variant
from experiments.worlds import World, WorldMaker, choose_worlds

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared data set (`clsd-prepare`).")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Where fits, worlds and results go.")
_ARMS = flags.DEFINE_list(
    "arms",
    ["plain", "clsd"],
    f"Ways of learning: {', '.join(ARMS)}; or variants, as "
    "clsd:confidence=mixture:generations=2. All are compared with plain.",
)
_BACKBONES = flags.DEFINE_list("backbones", ["dcn_v2"], "Architectures, see `clsd-train --help`.")
_NUM_SEEDS = flags.DEFINE_integer("num_seeds", 5, "Fits of each arm.", 1)
_NUM_TRIALS = flags.DEFINE_integer(
    "num_trials", 8, "Options to try for each arm, on validation rows; 0: arms as they are.", 0
)
_TUNE_SEEDS = flags.DEFINE_integer("tune_seeds", 2, "Fits of each trial.", 1)
_NOISE_RATES = flags.DEFINE_multi_string(
    "noise_rates",
    [],
    "A world with planted noise beside the log as it is: a rate for each user group, with commas "
    "between them, or one for all. Repeat the flag for more worlds.",
)
_NOISE = flags.DEFINE_multi_string(
    "noise",
    [],
    f"A world with planted noise of any kind, the rate last: {noise_forms()}. Repeat the flag for "
    "more worlds.",
)
_NOISE_SEED = flags.DEFINE_integer("noise_seed", 0, "Of the planted noise.", 0)
_ORIGINS = flags.DEFINE_list(
    "origins", [], "Days, such as 20220430: train up to each, judge the day after it, and pool."
)
_INPUT = flags.DEFINE_string(
    "input", None, "The log that data_dir was made of; default: as its manifest says."
)
_JUDGE = flags.DEFINE_list(
    "judge", [], "Satisfaction columns of zeros and ones to compare in; default: the first of them."
)
_PRIMARY = flags.DEFINE_enum(
    "primary", "clsd", list(ARMS), "Arm of the declared contrasts, one for each backbone."
)
_EPOCHS = flags.DEFINE_integer("epochs", 1, "Passes over the rows.", 1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 512, "Impressions a step.", 1)
_INPUT_SERVICE = flags.DEFINE_string(
    "input_service", None, "Address of a `clsd-input-service` that reads the training rows."
)
_DRAWS = flags.DEFINE_integer("bootstrap_draws", 1000, "Samples of users for intervals.", 1)
_FINAL = flags.DEFINE_bool("final", False, "Read the test split too. Once, at the end.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Say how many fits it would take, and stop.")
_SECONDS_PER_FIT = flags.DEFINE_float(
    "seconds_per_fit", None, "For --dry_run; default: as the fits in output_dir took.", 0.0
)
flags.mark_flags_as_required(["data_dir", "output_dir"])


def main(argv: list[str]) -> None:
    """Compares by the flags."""
    del argv
    settings = Settings(
        arms=tuple(dict.fromkeys(_ARMS.value)),
        backbones=tuple(dict.fromkeys(_BACKBONES.value)),
        num_seeds=_NUM_SEEDS.value,
        num_trials=_NUM_TRIALS.value,
        tune_seeds=_TUNE_SEEDS.value,
        epochs=_EPOCHS.value,
        batch_size=_BATCH_SIZE.value,
    )
    for arm in settings.arms:
        parse_variant(arm)
    for backbone in settings.backbones:
        check_backbone(backbone)
    worlds = choose_worlds(_NOISE_RATES.value, _ORIGINS.value, _NOISE.value)
    if _FINAL.value and _ORIGINS.value:
        raise ValueError(
            "Rolling origins have no test split. Received: --final and --origins. Expected: one of "
            "them; leave the other out."
        )
    output = pathlib.Path(_OUTPUT_DIR.value)
    cache = FitCache(output / "fits")
    maker = WorldMaker(_DATA_DIR.value, output / "worlds", _INPUT.value, _NOISE_SEED.value)
    if _DRY_RUN.value:
        print(_forecast(settings, worlds, maker, cache))
        return

    _require_extra()
    service = ask_service(_INPUT_SERVICE.value)
    # Fits are trained in several processes, of which none may take all of a GPU for good.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    load_tensorflow()
    from experiments.comparison import satisfaction_to_judge_by

    splits = ["valid", "test"] if _FINAL.value else ["valid"]
    judge_by = satisfaction_to_judge_by(pathlib.Path(_DATA_DIR.value), _JUDGE.value)
    config = {
        "data_dir": _DATA_DIR.value,
        **dataclasses.asdict(settings),
        "worlds": [dataclasses.asdict(world) for world in worlds],
        "noise_seed": _NOISE_SEED.value,
        "judge": judge_by,
        "primary": _PRIMARY.value,
        "bootstrap_draws": _DRAWS.value,
        "splits": splits,
    }
    if _FINAL.value:
        note_reading(output / "test_readings.jsonl", settings, worlds)
    metrics = _compare(settings, worlds, maker, cache, judge_by, splits, output, service)
    write_results(output / "results.json", config=config, metrics=metrics)


def note_reading(path: pathlib.Path, settings: Settings, worlds: list[World]) -> None:
    """Adds a line about a reading of the test split, before it is read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "arms": settings.arms,
        "backbones": settings.backbones,
        "worlds": [world.name for world in worlds],
        "command": sys.orig_argv,
    }
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _compare(
    settings: Settings,
    worlds: list[World],
    maker: WorldMaker,
    cache: FitCache,
    judge_by: list[str],
    splits: list[str],
    output: pathlib.Path,
    service: InputService | None,
) -> dict[str, object]:
    from experiments import contrasts
    from experiments.comparison import Comparison, noise_rates
    from experiments.comparison_plots import plot_contrasts, plot_reliability
    from experiments.comparison_table import render
    from experiments.fitting import Fitter
    from experiments.statistics import reliability_curve
    from experiments.studies import StudyStore

    places = {world: maker.make(world) for world in worlds}
    rows, summaries, trials = [], [], []
    total, exact = num_fits(settings, list(places.values()), cache)
    # What trainings say goes to their logs; the bar keeps the terminal that it began on.
    with Progress("fits" if exact else "fits, at most", total, "fits") as bar:

        def report(config: TrainConfig, seconds: float) -> None:
            bar.advance(1)
            bar.say(describe_fit(config, seconds))

        comparison = Comparison(settings, Fitter(cache, report, service), StudyStore(output))
        for world, backbone in itertools.product(worlds, settings.backbones):
            fits, tried = comparison.judge(backbone, world.name, places[world], splits)
            trials += tried
            for split, arms in fits.items():
                rows += [fit.row() for seeds in arms.values() for fit in seeds]
                summaries += contrasts.summarise(arms, judge_by, _DRAWS.value)
                plot_reliability(
                    {arm: reliability_curve(*contrasts.averaged(arms[arm])) for arm in arms},
                    f"{world.name}, {backbone}, {split}",
                    output / "figures" / f"reliability-{world.name}-{backbone}-{split}",
                )
    if _ORIGINS.value:
        with steps() as begin:
            begin("Intervals over all origins")
            summaries += contrasts.pool(summaries, _DRAWS.value)
    contrasts.add_recovered(summaries)
    contrasts.adjust_primary(summaries, _PRIMARY.value)
    order = [*(world.name for world in worlds), contrasts.POOLED]
    summaries.sort(key=lambda s: (order.index(s.world), s.split))
    plot_contrasts(summaries, output / "figures")
    table = render(summaries, f"{pathlib.Path(_DATA_DIR.value).name}: arms against plain")
    (output / "table.md").write_text(table, encoding="utf-8")
    print(table)
    return {
        "rows": rows,
        "summary": [summary.row() for summary in summaries],
        "trials": trials,
        "noise_rates": noise_rates(rows, {world.name: place for world, place in places.items()}),
    }


def _require_extra() -> None:
    missing = [name for name in ("matplotlib", "optuna") if importlib.util.find_spec(name) is None]
    if missing:
        raise RuntimeError(
            f"Comparisons need the extra `report`. Received: no {', '.join(missing)}. Install it: "
            'pip install "clsd_tf[report]".'
        )


def _forecast(settings: Settings, worlds: list[World], maker: WorldMaker, cache: FitCache) -> str:
    fits, exact = num_fits(settings, [maker.path(world) for world in worlds], cache)
    text = f"{fits} fits to train" if exact else f"At most {fits} fits to train"
    seconds = _SECONDS_PER_FIT.value or cache.seconds_per_fit()
    if seconds is None:
        return f"{text}. None was timed yet; give --seconds_per_fit to learn how long it takes."
    return f"{text}, {fits * seconds / 3600:.1f} hours at {seconds:.1f} s each."


def cli() -> None:
    """Entry point of `clsd-compare`."""
    run_main(main)


if __name__ == "__main__":
    cli()
