r"""Closes the loop: exports serve users of a simulated world, who click, of which models learn.

python -m experiments.simulate_online --output_dir=online --arms=plain,clsd --days=14 --seeds=3
python -m experiments.simulate_online --output_dir=floor --arms=plain,random --days=3 --seeds=2
python -m experiments.simulate_online --output_dir=ema --arms=plain,clsd --teacher=ema \
    --confidence=affine

The users are divided among the arms. On day 0 all arms answer at random; after each day an arm
prepares its own log, is trained on it by what `clsd-prepare`, `clsd-train` and `clsd-export` do,
and its new version answers the next day's requests. What users would like is known, so that clicks
can be told from what they are worth. Differences are those to the first arm, with intervals over
seeds; "harms" is said where an interval lies on the bad side of zero. Needs the extra `report`.

An interrupted experiment goes on with the seeds that are missing.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING

from absl import flags

from data_pipeline.cli import load_tensorflow, run_main, write_json, write_results
from data_pipeline.progress import progress
from experiments.arms import ARMS, get_arm
from experiments.runs import TrainConfig

if TYPE_CHECKING:  # it loads TensorFlow
    from experiments.online_world import OnlineOptions

RANDOM = "random"

_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Where results and figure go.")
_ARMS = flags.DEFINE_list(
    "arms", ["plain", "clsd"], f"Methods of `clsd-train`, or {RANDOM}; the first is the baseline."
)
_DAYS = flags.DEFINE_integer("days", 14, "Days that are served after day 0.", 1)
_SEEDS = flags.DEFINE_integer("seeds", 3, "Worlds, each with a seed of its own.", 1)
_USERS = flags.DEFINE_integer("users", 600, "Users, all arms together.", 16)
_ITEMS = flags.DEFINE_integer("items", 300, "Items.", 20)
_REQUESTS = flags.DEFINE_float(
    "daily_requests", 2.0, "Requests of a user and day, on average.", 0.0
)
_NOISE_RATES = flags.DEFINE_list(
    "noise_rates",
    [".05", ".10", ".20", ".35"],
    "For each group of users, from the least active to the most: the chance that an impression "
    "without interest is clicked.",
)
_CLICKBAIT = flags.DEFINE_float(
    "clickbait", 0.0, "Share of items that are clicked without interest at a rate of 0.4.", 0.0, 1.0
)
_EXPLORED = flags.DEFINE_float("explored", 0.1, "Share of requests answered at random.", 0.0, 1.0)
_BACKBONE = flags.DEFINE_string("backbone", "mlp", "Architecture, see `clsd-train --help`.")
_TEACHER = flags.DEFINE_enum(
    "teacher", "frozen", ["frozen", "ema"], "Of arms with a teacher, see `clsd-train --help`."
)
_CONFIDENCE = flags.DEFINE_enum(
    "confidence", None, ["global", "affine", "mixture"], "Confidence function of such arms."
)
_RETRAIN = flags.DEFINE_enum(
    "retrain",
    "warm",
    ["warm", "scratch"],
    "warm: a training goes on from yesterday's on the day's rows. scratch: anew on all days.",
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 256, "Impressions a step.", 1)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace an experiment in output_dir.")
flags.mark_flag_as_required("output_dir")


@flags.validator("arms", message=f"must be two or more different ones of {[*ARMS, RANDOM]}.")
def _are_arms(names: list[str]) -> bool:
    return len(set(names)) == len(names) > 1 and set(names) <= {*ARMS, RANDOM}


@flags.validator("noise_rates", message="must be numbers in [0, 1) with commas between them.")
def _are_rates(texts: list[str]) -> bool:
    try:
        return bool(texts) and all(0 <= float(text) < 1 for text in texts)
    except ValueError:
        return False


def main(argv: list[str]) -> None:
    """Runs the experiment by the flags."""
    del argv
    output = pathlib.Path(_OUTPUT_DIR.value)
    configs = {name: _config(name) for name in _ARMS.value}
    from experiments.online_world import OnlineOptions

    options = OnlineOptions(
        users=_USERS.value,
        items=_ITEMS.value,
        requests=_REQUESTS.value,
        noise_rates=tuple(float(text) for text in _NOISE_RATES.value),
        clickbait=_CLICKBAIT.value,
        explored=_EXPLORED.value,
    )
    config = {
        "arms": {n: None if c is None else dataclasses.asdict(c) for n, c in configs.items()},
        "world": dataclasses.asdict(options),
        "days": _DAYS.value,
        "retrain": _RETRAIN.value,
    }
    _begin(output, config)

    load_tensorflow()
    import tensorflow as tf

    from experiments.online_report import plot, render, summarize

    # TensorFlow takes many models in one process for one model that is traced again and again.
    tf.get_logger().setLevel("ERROR")
    seeds = []
    with progress("Days of all arms", _SEEDS.value * (1 + _DAYS.value), "days") as advance:
        for seed in range(_SEEDS.value):
            path = output / "seeds" / f"{seed}.json"
            if path.exists():
                advance(1 + _DAYS.value)
            else:
                write_json(path, _run_seed(seed, configs, options, output / "work", advance))
            seeds.append(_read(path))
    summary = summarize(seeds, options.noise_rates)
    title = f"{_DAYS.value} days, {len(seeds)} seeds: {', '.join(configs)}"
    print(render(summary, title))
    figure = plot(seeds, output / "online.png")
    write_results(
        output / "results.json",
        config={**config, "seeds": len(seeds)},
        metrics={**summary, "figure": str(figure)},
    )


def _run_seed(
    seed: int,
    configs: dict,
    options: OnlineOptions,
    work: pathlib.Path,
    advance: Callable[[int], None],
) -> dict[str, list[dict[str, object]]]:
    """Arm -> its days."""
    from experiments.online_arm import OnlineArm
    from experiments.online_world import OnlineWorld

    shutil.rmtree(work, ignore_errors=True)
    world = OnlineWorld(options, seed)
    arms = []
    for name, config in configs.items():
        own = None if config is None else dataclasses.replace(config, seed=seed)
        warm_start = _RETRAIN.value == "warm"
        arms.append(OnlineArm(name, world, own, work / name, warm_start=warm_start))
    arm_of = world.arm_of(len(arms))
    days: dict[str, list[dict[str, object]]] = {arm.name: [] for arm in arms}
    for day in range(1 + _DAYS.value):
        requests = world.requests(day)
        for number, arm in enumerate(arms):
            served = arm.serve(day, requests.select(arm_of[requests.user] == number))
            # What is learned on the last day would serve nobody.
            learned = arm.learn(day) if day < _DAYS.value else {}
            days[arm.name].append({**dataclasses.asdict(served), **learned})
        advance(1)
    shutil.rmtree(work, ignore_errors=True)
    return days


def _config(name: str) -> TrainConfig | None:
    """What an arm is trained with; None for the one that learns nothing."""
    if name == RANDOM:
        return None
    arm = get_arm(name)
    given = {"confidence": _CONFIDENCE.value} if arm.needs_teacher else {}
    return TrainConfig(
        data_dir="",
        data="",
        backbone=_BACKBONE.value,
        method=name,
        options=arm.with_options(given),
        teacher=_TEACHER.value if arm.needs_teacher else "frozen",
        batch_size=_BATCH_SIZE.value,
    )


def _begin(output: pathlib.Path, config: dict[str, object]) -> None:
    """Makes the directory, or checks that it is of the same experiment, which then goes on."""
    path = output / "config.json"
    if path.exists() and _OVERWRITE.value:
        shutil.rmtree(output)
    if path.exists():
        if json.loads(path.read_text(encoding="utf-8")) != json.loads(json.dumps(config)):
            raise ValueError(
                f"{output} holds an experiment with other options. Received: flags that differ "
                "from its config.json. Expected: the same. Resume it with its own, choose another "
                "--output_dir, or pass --overwrite."
            )
    elif output.exists() and any(output.iterdir()):
        raise ValueError(
            f"{output} is not empty and holds no experiment. Received: that --output_dir. "
            "Expected: a folder that is empty or not there; choose another one."
        )
    else:
        write_json(path, config)


def _read(path: pathlib.Path) -> dict[str, list[dict[str, object]]]:
    """A seed's days as they were written; what was no number there is one again."""
    days = json.loads(path.read_text(encoding="utf-8"))
    for day in (day for of_arm in days.values() for day in of_arm):
        if day["confidence"] is None:
            day["confidence"] = float("nan")
    return days


def cli() -> None:
    """Entry point of `clsd-simulate-online`."""
    run_main(main)


if __name__ == "__main__":
    cli()
