"""Sections on how training went: learning curves, seconds, size of the models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.reporting import charts
from experiments.reporting.blocks import NOTHING, Figure, Section, Table, count, decimal
from experiments.reporting.runs import PhaseFacts, RunFacts

_MAX_ROWS = 60


def curves_section(runs: Sequence[RunFacts]) -> Section:
    """Training loss by step, and what validation said after each epoch."""
    figures = [
        _curve(number, facts)
        for number, facts in enumerate(runs)
        if any(len(phase.curve) > 1 for phase in facts.phases)
    ]
    rows = [
        (
            facts.name,
            phase.name,
            str(epoch["epoch"] + 1),
            *(decimal(epoch.get(name)) for name in ("loss", "val_loss", "val_auc")),
        )
        for facts in runs
        for phase in facts.phases
        for epoch in phase.result["epochs"]
    ]
    heads = ("run", "phase", "epoch", "training loss", "validation log loss", "validation AUC")
    text = [
        "The loss of a phase is what that phase minimises: that of a student with soft labels or "
        "weights cannot be compared with that of a plain model. Validation can."
    ]
    return Section(
        "curves",
        "Learning curves",
        text,
        figures,
        [Table("After each epoch", heads, rows, text_columns=2)],
    )


def cost_section(runs: Sequence[RunFacts]) -> Section:
    """Seconds of each phase, and parameters."""
    rows = []
    for facts in runs:
        known = 0.0
        for phase in facts.phases:
            seconds = phase.result.get("seconds")
            known += seconds or 0.0
            steps = phase.curve[-1]["step"] if phase.curve else None
            trained = phase.curve[-1]["seconds"] if phase.curve else None
            rows.append(
                (
                    facts.name,
                    phase.name,
                    decimal(seconds, 1),
                    NOTHING if steps is None else count(steps),
                    count(steps / trained) if trained else NOTHING,
                )
            )
        if facts.seconds is not None:
            # A teacher that was copied took its time in its own run.
            rest = facts.seconds - known
            rows.append(
                (facts.name, "everything else", decimal(max(rest, 0.0), 1), NOTHING, NOTHING)
            )
            rows.append((facts.name, "whole training", decimal(facts.seconds, 1), NOTHING, NOTHING))
    parts = [
        (
            facts.name,
            part["name"],
            part["kind"],
            " x ".join(count(size) for size in part["shape"]) or NOTHING,
            count(part["parameters"]),
        )
        for facts in runs
        for part in facts.student.result.get("parameters", [])
    ]
    tables = [
        Table("Seconds by phase", ("run", "phase", "seconds", "steps", "steps/s"), rows, 2),
        Table(
            "Parameters of the student, which is all that is served",
            ("run", "part", "kind", "shape", "parameters"),
            parts,
            text_columns=3,
            is_folded=True,
        ),
    ]
    text = [
        "Seconds are of wall time on the machine that trained, over all resumes; “everything else” "
        "is loading, stored scores, and starting. Teacher and confidence cost time in training "
        "and nothing in serving."
    ]
    return Section("cost", "Cost", text, tables=tables)


def _curve(number: int, facts: RunFacts) -> Figure:
    curves = {
        phase.name: tuple(np.array([(p["step"], p["loss"]) for p in phase.curve]).T)
        for phase in facts.phases
        if len(phase.curve) > 1
    }
    return charts.lines(
        f"curve-{number}",
        f"Training loss: {facts.name}",
        "Mean loss of the latest steps by the number of steps, a curve for each phase of the run.",
        curves,
        ("steps", "loss"),
        Table(
            f"Training loss: {facts.name}",
            ("phase", "step", "seconds", "loss"),
            [row for phase in facts.phases for row in _thinned(phase)],
        ),
    )


def _thinned(phase: PhaseFacts) -> list[tuple[str, ...]]:
    """Some lines of a curve, evenly spread; the file has all."""
    every = max(1, -(-len(phase.curve) // _MAX_ROWS))
    return [
        (phase.name, count(p["step"]), decimal(p["seconds"], 1), decimal(p["loss"], 5))
        for p in phase.curve[::every]
    ]
