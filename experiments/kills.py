r"""Kills commands at random moments, starts them again, and compares what is left in the end.

python -m experiments.kills --output_dir=kills --kills=200
python -m experiments.kills --output_dir=kills --kills=8 --rows=3000 --commands=train
python -m experiments.kills --output_dir=kills --kills=40 --seed=1 --overwrite

Every command runs once undisturbed. Then it is started, and killed with SIGKILL or SIGTERM at a
moment drawn from the seed, again and again, and at last left to come to its end. While it runs,
what can be seen in its output directory is checked to be whole. Shards, scores, weights, metrics
and exported variables have to equal those of the undisturbed run bit by bit, and nothing else may
be left behind. The status is 1 if anything differs.
"""

from __future__ import annotations

import dataclasses
import pathlib
import random
import shutil
import time

from absl import flags

from data_pipeline.cli import load_tensorflow, run_main, write_results
from data_pipeline.progress import progress

COMMANDS = ("prepare", "train", "score", "export")

_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Where runs and results.json go.")
_KILLS = flags.DEFINE_integer("kills", 200, "In all, divided among the commands.", 1)
_ROWS = flags.DEFINE_integer("rows", 4000, "Rows of the simulated log.", 500)
_SEED = flags.DEFINE_integer("seed", 0, "Of moments and signals.", 0)
_COMMANDS = flags.DEFINE_multi_enum(
    "commands", list(COMMANDS), list(COMMANDS), "Which are killed; may be repeated."
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace earlier results in output_dir.")
flags.mark_flag_as_required("output_dir")


def main(argv: list[str]) -> None:
    """Kills by the flags."""
    del argv
    place = _empty_directory(pathlib.Path(_OUTPUT_DIR.value).absolute(), _OVERWRITE.value)

    load_tensorflow()
    from experiments.killed_runs import begin_again, differences, left_overs, whole
    from experiments.killing import Commands, Victim

    started = time.monotonic()
    rng = random.Random(_SEED.value)
    told: dict[str, dict] = {}
    problems: list[str] = []
    chosen = [name for name in COMMANDS if name in _COMMANDS.value]
    kills = {name: share(_KILLS.value, len(chosen), i) for i, name in enumerate(chosen)}
    with (
        Commands(place, rows=_ROWS.value) as commands,
        progress("Kills", _KILLS.value, "kills") as advance,
    ):
        for name in COMMANDS:
            seconds = Victim(commands.of(name, "undisturbed")).run_to_end()
            victim = Victim(commands.of(name, "disturbed"), watch=lambda: whole(place))
            for _ in range(kills.get(name, 0)):
                if victim.has_ended:
                    victim.problems += differences(place, name)
                    begin_again(place, name)
                    victim.has_ended = False
                victim.kill(rng.choice(("SIGKILL", "SIGTERM")), rng.uniform(0.0, seconds))
                advance(1)
            victim.run_to_end()
            found = [*victim.problems, *differences(place, name), *left_overs(place)]
            problems += [f"{name}: {problem}" for problem in found]
            told[name] = {"seconds": round(seconds, 2), **dataclasses.asdict(victim.counts)}
    metrics = {
        "kills": sum(counts["SIGKILL"] + counts["SIGTERM"] for counts in told.values()),
        "commands": told,
        "problems": problems,
        "seconds": round(time.monotonic() - started, 1),
    }
    config = {"rows": _ROWS.value, "seed": _SEED.value, "commands": chosen}
    write_results(place / "results.json", config=config, metrics=metrics)
    if problems:
        raise RuntimeError(
            f"Kills have left their marks. Received: {'; '.join(problems[:3])} ({len(problems)} in "
            f"all, see {place / 'results.json'}). Expected: what the undisturbed run leaves."
        )


def _empty_directory(directory: pathlib.Path, overwrite: bool) -> pathlib.Path:
    if overwrite and (directory / "results.json").exists():
        shutil.rmtree(directory)
    if directory.exists() and any(directory.iterdir()):
        raise FileExistsError(
            f"{directory} is not empty. Received: that --output_dir. Expected: a folder that is "
            "empty or not there. Choose another, or pass --overwrite to replace earlier results."
        )
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def share(total: int, parts: int, index: int) -> int:
    """How many of `total` fall to one of the parts, as evenly as can be."""
    return (index + 1) * total // parts - index * total // parts


def cli() -> None:
    """Entry point of `clsd-kills`."""
    run_main(main)


if __name__ == "__main__":
    cli()
