"""Every example in a docstring runs, and gives what it shows."""

from __future__ import annotations

import doctest
import importlib
import pathlib
import pkgutil

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import clsd_tf
from clsd_tf.features import TEACHER_LOGIT
from tests import shop

MODULES = ["clsd_tf", *(m.name for m in pkgutil.walk_packages(clsd_tf.__path__, "clsd_tf."))]


def examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = []
    for name in MODULES:
        module = importlib.import_module(name)
        found += [test for test in finder.find(module, name, module) if test.examples]
    return found


EXAMPLES = examples()


class Checker(doctest.OutputChecker):
    """An example that shows no result may have one; one that shows it must have that one."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return not want or super().check_output(want, got, optionflags)


@pytest.fixture
def granted(tmp_path, monkeypatch, shop_encoder) -> dict[str, object]:
    """What examples take for granted: a prepared log, features, batches, and a backbone."""
    monkeypatch.chdir(tmp_path)
    shop.make_encoder(pathlib.Path("prepared"))
    rng = np.random.default_rng(0)
    rows = 600
    x = rng.normal(size=(rows, 3)).astype(np.float32)
    clicks = (rng.random(rows) < 1 / (1 + np.exp(-x[:, 0]))).astype(np.float32)
    inputs = {"x": x, "_group": np.arange(rows) % 4, TEACHER_LOGIT: x[:, 0]}
    data = tf.data.Dataset.from_tensor_slices((inputs, clicks)).batch(100)

    def make_dataset(*args: object, skip_batches: int = 0, **kwargs: object) -> tf.data.Dataset:
        return data.skip(skip_batches)

    def backbone() -> keras.Model:
        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])

    model = clsd_tf.ClickConfidenceModel(backbone(), num_groups=4)
    model.compile()
    raw = {
        column.name: tf.ragged.constant([[]], {"int": tf.int64, "string": tf.string}[column.type])
        if column.is_list
        else tf.constant([{"int": 7, "float": 1.0, "string": "fig"}[column.type]])
        for column in shop_encoder.spec.model_columns
    }
    raw = {n: tf.cast(v, tf.int64) if v.dtype == tf.int32 else v for n, v in raw.items()}
    return {
        **{name: getattr(clsd_tf, name) for name in clsd_tf.__all__},
        **{"train": data.take(4), "valid": data.skip(4), "model": model, "raw": raw},
        **{"backbone": backbone, "make_dataset": make_dataset, "np": np, "tf": tf},
    }


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_runs(example, granted):
    told: list[str] = []
    example.globs = {**vars(importlib.import_module(module_of(example))), **granted}
    runner = doctest.DocTestRunner(Checker(), verbose=False)
    runner.run(example, out=told.append)
    assert runner.failures == 0, "".join(told)


def module_of(example: doctest.DocTest) -> str:
    return max((name for name in MODULES if example.name.startswith(name)), key=len)


def test_there_are_some():
    assert {"clsd_tf.model.ClickConfidenceModel", "clsd_tf.metrics.gauc"} <= {
        example.name for example in EXAMPLES
    }
