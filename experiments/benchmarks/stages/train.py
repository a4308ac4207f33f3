"""A step of training: beside other libraries, and taught beside plain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from clsd_tf.backbones import backbone_names
from experiments.benchmarks.click_log import make_arrays, make_prepared
from experiments.benchmarks.contenders import OURS, Comparison, Contender, Target
from experiments.benchmarks.floors import DIM, MachineRates
from experiments.benchmarks.settings import Settings
from experiments.benchmarks.step_floors import Kept, Sizes, step_floors

# Of the comparison like for like.
SIZES: Sizes = {
    "dim": DIM,
    "units": [256, 128, 64],
    "num_cross_layers": 3,
    "attention_units": [36],
}
DEFAULT_SIZES: Sizes = {
    "dim": DIM,
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
# (table rows, least ratio of Adam for everything to the default)
_OPTIMIZER_TARGETS = ((2_000_000, 3.0), (10_000_000, 10.0))


def comparisons(settings: Settings, rates: MachineRates) -> Iterator[Comparison]:
    """All of the stage."""
    base: dict[str, str | int] = {"arrays": str(make_arrays(settings.data, settings.size))}
    base |= {"batch_size": settings.batch_size, "cardinality": settings.size.vocabulary + 2}
    for backbone in [name for name in _BACKBONES if name in backbone_names()]:
        options = {**base, "backbone": backbone, "lists": backbone == "din"}
        yield _like_for_like(settings, backbone, options, rates)
    for backbone in ("mlp", "dcn_v2"):
        yield _mixed_precision(settings, {**base, "backbone": backbone, "lists": False})
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
    peers = _peers(settings, options, _NOT_LIKE[backbone])
    return Comparison(
        "train",
        f"{backbone}, like for like",
        (Contender(OURS, "own_train", options, steps=settings.steps), *peers),
        _targets_of(peers),
        floors=_floors(settings, options, SIZES, rates, kept="rows"),  # by Adagrad
    )


def _mixed_precision(settings: Settings, options: Mapping[str, object]) -> Comparison:
    """Like for like, in the mixed precision of each library; the rates of floors are float32's."""
    backbone = str(options["backbone"])
    exact = {**options, "sizes": SIZES, "optimizer": "adagrad"}
    mixed = {**exact, "precision": "mixed_bfloat16"}
    # TFRS: its crosses and blocks of layers mix types, and fail.
    peers = _peers(settings, mixed, _NOT_LIKE[backbone] | {_TFRS})
    in_float32 = f"{OURS}, float32"
    return Comparison(
        "train",
        f"{backbone}, mixed precision",
        (
            Contender(OURS, "own_train", mixed, steps=settings.steps),
            Contender(in_float32, "own_train", exact, steps=settings.steps),
            *peers,
        ),
        (*_targets_of(peers), Target(in_float32, OURS)),
    )


def _peers(
    settings: Settings, options: Mapping[str, object], left_out: set[str]
) -> tuple[Contender, ...]:
    all_peers = (
        (_DEEPCTR, "deepctr_train", "deepctr"),
        (_TFRS, "tfrs_train", None),
        (_KERAS3, "keras3_train", "keras3"),
        (_TORCH, "torch_train", "torch"),
    )
    return tuple(
        Contender(name, worker, options, environment, settings.steps)
        for name, worker, environment in all_peers
        if name not in left_out
    )


def _targets_of(peers: tuple[Contender, ...]) -> tuple[Target, ...]:
    return tuple(
        Target(peer.name, OURS, 2.5 if peer.name == _DEEPCTR else 1.3, "at least") for peer in peers
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
    kept: Kept,
) -> dict[str, float]:
    backbone, arrays = str(options["backbone"]), str(options["arrays"])
    found = step_floors(backbone, arrays, settings.batch_size, sizes, rates, kept)
    return {f"{OURS}, {name}": floor for name, floor in found.items()}


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
        "clsd, mixed precision": {"method": "clsd", "precision": "mixed_bfloat16"},
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
