"""The whole path in one command: simulated clicks -> shards -> plain model and CLSD -> export.

python -m experiments.demo --output_dir=clsd_demo --rows=200000 --seed=0
python -m experiments.demo --output_dir=quick_demo --rows=30000
python -m experiments.demo --output_dir=din_demo --backbone=din

Runs the commands a user would run and prints each, simulates a log in which groups of users click
without interest at different rates, and shows how plain and click-confidence training compare on
clicks and on long views. The figures are of this one simulated log; docs/results.md has real ones.
"""

from __future__ import annotations

import json
import pathlib
import shlex
import shutil
import subprocess
import sys

from absl import flags
from rich.console import Console
from rich.table import Table

from data_pipeline.cli import run_main, write_results
from data_pipeline.progress import is_quiet

_OUTPUT_DIR = flags.DEFINE_string("output_dir", "clsd_demo", "Where everything goes.")
_ROWS = flags.DEFINE_integer("rows", 200_000, "Impressions to simulate.", 20_000)
_SEED = flags.DEFINE_integer("seed", 0, "Of the simulation and of training.", 0)
_BACKBONE = flags.DEFINE_string("backbone", "dcn_v2", "Architecture, see `clsd-train --help`.")

_MARK = ".clsd_demo"  # says that a folder may be replaced by the next demo


def main(argv: list[str]) -> None:
    """Runs the demo by the flags."""
    del argv
    root = pathlib.Path(_OUTPUT_DIR.value)
    _begin(root)
    log, data = root / "log", root / "prepared"
    plain, clsd = root / "runs" / "plain", root / "runs" / "clsd"
    seed = f"--seed={_SEED.value}"
    train = ["experiments.train", f"--data_dir={data}", f"--backbone={_BACKBONE.value}", seed]

    _run("data_pipeline.simulate", f"--output_dir={log}", f"--rows={_ROWS.value}", seed)
    _run(
        "data_pipeline.prepare",
        f"--spec={log / 'spec.toml'}",
        f"--input={log / 'log.parquet'}",
        f"--output_dir={data}",
    )
    _run(*train, f"--model_dir={plain}", "--method=plain")
    _run(*train, f"--model_dir={clsd}", "--method=clsd")
    judged = {}
    for model_dir in (plain, clsd):
        results = _run(
            "experiments.evaluate",
            f"--model_dir={model_dir}",
            f"--data_dir={data}",
            "--split=test",
            quiet=True,
        )
        judged[model_dir.name] = json.loads(results.read_text(encoding="utf-8"))["metrics"]
    exported = _run("experiments.export", f"--model_dir={clsd}").parents[1]

    places = {"log": log, "shards": data, "plain": plain, "clsd": clsd, "export": exported}
    _show(judged, places)
    write_results(
        root / "results.json",
        config={"rows": _ROWS.value, "seed": _SEED.value, "backbone": _BACKBONE.value},
        metrics={**judged, "paths": {name: str(path) for name, path in places.items()}},
    )


def _begin(root: pathlib.Path) -> None:
    if root.exists() and any(root.iterdir()) and not (root / _MARK).exists():
        raise ValueError(
            f"{root} is not empty and not of an earlier demo. Received: that --output_dir. "
            "Expected: a folder that is empty or not there; choose another one."
        )
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    (root / _MARK).touch()


def _run(module: str, *arguments: str, quiet: bool = False) -> pathlib.Path:
    """Runs a command as a user would; returns the path of its results."""
    print(f"\n$ python -m {module} {shlex.join(arguments)}", flush=True)
    command = [sys.executable, "-P", "-m", module, *arguments, *["--quiet"] * is_quiet()]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f"A command of the demo failed, see above. Received: status {done.returncode} of "
            f"{module}. Expected: 0. Mend what it says, and start the demo again."
        )
    output = done.stdout.rstrip()
    if not quiet:
        print(output, flush=True)
    return pathlib.Path(output.splitlines()[-1])


def _show(judged: dict[str, dict], places: dict[str, pathlib.Path]) -> None:
    table = Table(title="Test day of the simulated log", title_justify="left")
    table.add_column("")
    rows = {
        "click AUC": lambda m: m["click"]["auc"],
        "click GAUC": lambda m: m["click"]["gauc"],
        "long-view AUC": lambda m: m["satisfaction"]["long_view"]["auc"],
        "long-view AUC among clicks": lambda m: m["satisfaction"]["long_view"]["auc_among_clicks"],
        "log loss": lambda m: m["click"]["log_loss"],
        "predicted / observed clicks": lambda m: m["click"]["predicted_over_observed"],
    }
    for name in judged:
        table.add_column(name, justify="right")
    table.add_column("difference", justify="right")
    for name, value in rows.items():
        plain, clsd = (value(metrics) for metrics in judged.values())
        table.add_row(name, f"{plain:.4f}", f"{clsd:.4f}", f"{clsd - plain:+.4f}")
    console = Console(width=100)
    console.print()
    console.print(table)
    console.print("Clicks of the test day hold noise too; a long view follows interest.\n")
    for name, path in places.items():
        console.print(f"{name:>8}  {path}", highlight=False)


def cli() -> None:
    """Entry point of `clsd-demo`."""
    run_main(main)


if __name__ == "__main__":
    cli()
