"""A step of training: beside other libraries, and taught beside plain."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Literal, NotRequired, TypedDict

import numpy as np

from clsd_tf.backbones import backbone_names
from experiments.benchmarks.click_log import make_arrays, make_prepared
from experiments.benchmarks.contenders import OURS, Comparison, Contender, Target
from experiments.benchmarks.floors import (
    MachineRates,
    dense_floor,
    rows_floor,
    stack_multiplications,
)
from experiments.benchmarks.settings import Settings
from experiments.benchmarks.workers.arrays import BATCHES, load_arrays, load_columns


class Sizes(TypedDict):
    """Widths of a model."""

    dim: int
    units: list[int]
    num_cross_layers: int
    attention_units: NotRequired[list[int]]  # of din


# Of the comparison like for like.
SIZES: Sizes = {
    "dim": 16,
    "units": [256, 128, 64],
    "num_cross_layers": 3,
    "attention_units": [36],
}
DEFAULT_SIZES: Sizes = {
    "dim": 16,
    "units": [256, 128],
    "num_cross_layers": 2,
    "attention_units": [36],
}
_DEEPCTR, _TFRS, _KERAS3, _TORCH = "DeepCTR", "TFRS Ranking", "Keras 3, keras-rs", "PyTorch"
_BACKBONES = ("mlp", "deepfm", "dcn_v2", "din")
_NOT_LIKE = {  # what a peer does not have, or what was not written for it
    "mlp": {_TFRS},
    "deepfm": {_TFRS, _KERAS3, _TORCH},
    "dcn_v2": set(),
    "din": {_TFRS},
}
_STEPS_OF_A_CALL = 4  # times the steps asked for: to call `fit` has a cost of its own, of no step
# (table rows, least ratio of Adam for everything to the default)
_OPTIMIZER_TARGETS = ((2_000_000, 3.0), (10_000_000, 10.0))


def comparisons(settings: Settings, rates: MachineRates) -> Iterator[Comparison]:
    """All of the stage."""
    steps = _STEPS_OF_A_CALL * settings.steps
    settings = dataclasses.replace(settings, steps=steps)
    base: dict[str, str | int] = {"arrays": str(make_arrays(settings.data, settings.size))}
    base |= {"batch_size": settings.batch_size, "cardinality": settings.size.vocabulary + 2}
    for backbone in [name for name in _BACKBONES if name in backbone_names()]:
        options = {**base, "backbone": backbone, "lists": backbone == "din"}
        yield _like_for_like(settings, backbone, options, rates)
    for backbone in [name for name in _BACKBONES if name in backbone_names()]:
        options = {**base, "backbone": backbone, "lists": backbone == "din", "sizes": None}
        yield _as_documented(settings, options, rates)
    yield _taught(settings, {**base, "backbone": "dcn_v2", "lists": False, "sizes": None})
    yield _whole_job(settings)
    for rows, bound in _OPTIMIZER_TARGETS:
        options = {**base, "backbone": "dcn_v2", "lists": False, "sizes": None}
        cardinality = max(settings.size.vocabulary + 2, rows // settings.size.categorical)
        yield _optimizers(settings, {**options, "cardinality": cardinality}, cardinality, bound)


def _like_for_like(
    settings: Settings, backbone: str, options: Mapping[str, object], rates: MachineRates
) -> Comparison:
    """The same widths, tables, optimizer and batch for all."""
    options = {**options, "sizes": SIZES, "optimizer": "adagrad"}
    all_peers = (
        (_DEEPCTR, "deepctr_train", "deepctr"),
        (_TFRS, "tfrs_train", None),
        (_KERAS3, "keras3_train", "keras3"),
        (_TORCH, "torch_train", "torch"),
    )
    peers = tuple(peer for peer in all_peers if peer[0] not in _NOT_LIKE[backbone])
    return Comparison(
        "train",
        f"{backbone}, like for like",
        (
            Contender(OURS, "own_train", options, steps=settings.steps),
            *(Contender(n, w, options, e, settings.steps) for n, w, e in peers),
        ),
        tuple(
            Target(name, OURS, 2.5 if name == _DEEPCTR else 1.3, "at least") for name, _, _ in peers
        ),
        # Adagrad keeps as much of a row as there is in it.
        floors=_floors(settings, options, SIZES, rates, kept="rows"),
    )


def _as_documented(
    settings: Settings, options: Mapping[str, object], rates: MachineRates
) -> Comparison:
    """Default widths and the optimizer of each one's documentation."""
    backbone = str(options["backbone"])
    ours = Contender(OURS, "own_train", {**options, "optimizer": "default"}, steps=settings.steps)
    theirs = {**options, "optimizer": "adam"}
    return Comparison(
        "train",
        f"{backbone}, as documented",
        (ours, Contender(_DEEPCTR, "deepctr_train", theirs, "deepctr", settings.steps)),
        (Target(_DEEPCTR, OURS, 3, "at least"),),
        floors=_floors(settings, options, DEFAULT_SIZES, rates, kept="scalars"),
    )


def _floors(
    settings: Settings,
    options: Mapping[str, object],
    sizes: Sizes,
    rates: MachineRates,
    *,
    kept: Literal["rows", "scalars"],
) -> dict[str, float]:
    """What a step cannot do without; `kept` beside each row of a table by the optimizer."""
    backbone, lists = str(options["backbone"]), bool(options["lists"])
    products = dense_floor(multiplications(backbone, settings, sizes, lists=lists), rates)
    tables = collections.Counter(["rows", kept])
    if backbone == "deepfm":  # the linear term has a table of its own
        tables["scalars"] += 2
    read = distinct_rows(str(options["arrays"]), settings.batch_size, lists=lists)
    rows = rows_floor(read, rates, rows=tables["rows"], scalars=tables["scalars"])
    return {
        "matrix products at the measured peak": products,
        "these, and rows of tables read and written once": products + rows,
    }


def distinct_rows(arrays: str, batch_size: int, *, lists: bool) -> float:
    """Different rows of the tables that a batch reads, for each of its examples.

    Args:
      arrays: directory of the encoded rows.
      batch_size: rows of a batch; the mean is that of the batches that workers train on.
      lists: whether lists are read.
    """
    columns = load_columns(arrays, lists)
    values, labels = load_arrays(arrays, columns, BATCHES * batch_size)
    tables: dict[str, list[np.ndarray]] = {}
    for column in columns:
        if column["kind"] == "categorical":
            tables.setdefault(column["table"], []).append(values[column["name"]])
    starts = range(0, len(labels), batch_size)
    found = sum(
        len(np.unique(np.concatenate([ids[start : start + batch_size].ravel() for ids in table])))
        for table in tables.values()
        for start in starts
    )
    return found / len(labels)


def _taught(settings: Settings, options: dict[str, object]) -> Comparison:
    """Students by where their teacher comes from, with the default of `clsd`."""
    options = {**options, "optimizer": "default"}
    lesson = {"confidence": "mixture", "student": "soft"}
    affine = {"confidence": "affine", "student": "soft"}  # an average has no held-out rows
    variants = {
        "plain": {},
        "stored scores": {"teacher": "scores", **lesson},
        "frozen teacher": {"teacher": "frozen", **lesson},
        "EMA teacher": {"teacher": "ema", **affine},
    }
    bounds = {"stored scores": 1.03, "frozen teacher": 1.25, "EMA teacher": 1.35}
    return Comparison(
        "train",
        "dcn_v2, taught",
        tuple(
            Contender(name, "own_train", {**options, **extra}, steps=settings.steps)
            for name, extra in variants.items()
        ),
        tuple(Target(name, "plain", bound, "at most") for name, bound in bounds.items()),
    )


def _whole_job(settings: Settings) -> Comparison:
    """From prepared shards to a finished run, validation and checkpoints included."""
    base = {
        "prepared": str(make_prepared(settings.data, settings.size)),
        "rows": settings.size.rows,
        "batch_size": settings.batch_size,
    }
    configs = {
        "plain": {"method": "plain"},
        "clsd": {"method": "clsd"},
        "clsd, a quarter for the teacher": {"method": "clsd", "teacher_fraction": 0.25},
        "clsd, EMA teacher": {
            "method": "clsd",
            "teacher": "ema",
            "options": {"confidence": "affine"},
        },
    }
    contenders = [
        Contender(
            name,
            "own_job",
            {**base, "config": config, "model_dir": str(settings.directory / "jobs" / str(place))},
        )
        for place, (name, config) in enumerate(configs.items())
    ]
    targets = [Target(name, "plain") for name in configs if name != "plain"]
    targets[0] = Target("clsd", "plain", 2.3, "at most")
    return Comparison("train", "whole job", tuple(contenders), tuple(targets))


def _optimizers(
    settings: Settings, options: Mapping[str, object], cardinality: int, bound: float
) -> Comparison:
    rows = cardinality * settings.size.categorical
    return Comparison(
        "train",
        f"dcn_v2, {rows / 1e6:.0f} M table rows",
        (
            Contender(
                "default", "own_train", {**options, "optimizer": "default"}, steps=settings.steps
            ),
            Contender("Adam", "own_train", {**options, "optimizer": "adam"}, steps=settings.steps),
        ),
        (Target("Adam", "default", bound, "at least"),),
    )


def multiplications(backbone: str, settings: Settings, sizes: Sizes = SIZES, *, lists: bool) -> int:
    """Multiplications an example on the way forward, of all matrices.

    Args:
      backbone: name.
      settings: of the benchmark.
      sizes: as `SIZES`.
      lists: whether the model sees the history.
    """
    dim, units = sizes["dim"], sizes["units"]
    width = dim * (settings.size.categorical + lists) + settings.size.numeric
    total = stack_multiplications([width, *units, 1])
    if backbone == "dcn_v2":
        total += sizes["num_cross_layers"] * width * width + width
    if backbone == "din":
        total += settings.size.history * stack_multiplications(
            [4 * dim, *sizes["attention_units"], 1]
        )
    return total
