"""Floors of the benchmark: by hand, and beside what backbones and optimizers have."""

from __future__ import annotations

import collections

import numpy as np
import pytest
import tensorflow as tf

from clsd_tf import ClickConfidenceModel, ModelFeature, get_backbone
from clsd_tf.optimizers import SparseAdagrad
from experiments.benchmarks.contenders import Comparison, Contender, Target
from experiments.benchmarks.driver import Measured
from experiments.benchmarks.floors import (
    MachineRates,
    dense_floor,
    read_floor,
    rows_floor,
    stack_multiplications,
)
from experiments.benchmarks.report import metrics, table
from experiments.benchmarks.stages.train import DEFAULT_SIZES
from experiments.benchmarks.step_floors import Read, multiplications, read_of, tables_of
from experiments.benchmarks.summaries import outcome


class TestFloors:
    rates = MachineRates(flops=6e9, copied_bytes=2e6, rows=1e7, scalars=4e7)

    def test_by_hand(self):
        assert stack_multiplications([4, 3, 2]) == 18
        assert dense_floor(1000, self.rates) == pytest.approx(1.0)  # 6000 operations
        assert read_floor(100, self.rates) == pytest.approx(100.0)  # 200 bytes
        # 20 rows, each in a table of vectors, .1 us, and in two of numbers, .025 us
        assert rows_floor(20, self.rates, rows=1, scalars=2) == pytest.approx(3.0)

    def test_what_repeats_in_a_batch_is_read_once_and_padding_is_no_element(self, encoded_arrays):
        # Two batches of `item`, all different, and 5 of 15 that are not whole; `past` is padding
        # but for one item of the second batch, and 0 is an item of the first batch alone.
        past = np.zeros((40_000, 3), np.int32)
        past[20_000, :2] = 20_007
        np.save(encoded_arrays / "past.npy", past)
        assert read_of(str(encoded_arrays), 20_000, lists=False) == Read(1, 1, 0.0, 1.0)
        assert read_of(str(encoded_arrays), 20_000, lists=True) == Read(
            1, 2, pytest.approx(2 / 40_000), pytest.approx(40_001 / 40_000)
        )
        assert read_of(str(encoded_arrays), 15_000, lists=False).rows == pytest.approx(1.0)

    def test_products_of_a_step_by_hand(self):
        sizes = {"dim": 2, "units": [3], "num_cross_layers": 2, "attention_units": [5]}
        assert multiplications("mlp", 7, sizes) == 7 * 3 + 3
        assert multiplications("dcn_v2", 7, sizes) == 7 * 3 + 3 + 2 * 49 + 7
        pairs = 2 * 5 + 1.5 * (2 * 5 + 5)
        assert multiplications("din", 7, sizes, elements=1.5) == 7 * 3 + 3 + pairs

    @pytest.mark.parametrize("kept", ["rows", "scalars"])
    @pytest.mark.parametrize("name", ["mlp", "deepfm", "dcn_v2"])
    def test_tables_are_those_of_backbone_and_optimizer(self, name, kept):
        item = ModelFeature("item", "categorical", cardinality=9, table="item", role="item")
        model = ClickConfidenceModel(get_backbone(name, [item]))
        model.compile(SparseAdagrad() if kept == "rows" else None)
        batch = tf.data.Dataset.from_tensors(({"item": tf.constant([1, 2])}, tf.zeros([2])))
        model.fit(batch, verbose=0)
        optimizers = getattr(model.optimizer, "optimizers", [model.optimizer])
        state = [v for each in optimizers for v in each.variables]
        tables = [v.shape for v in (*model.trainable_weights, *state) if v.shape[:1] == [9]]
        found = collections.Counter(
            "rows" if shape.num_elements() > 9 else "scalars" for shape in tables
        )
        assert found == tables_of(name, kept)

    def test_a_target_that_a_floor_forbids_is_told(self):
        contenders = (Contender("own", ""), Contender("peer", ""))
        targets = Target("peer", "own", 3.0, "at least"), Target("peer", "own", 2.0, "at least")
        samples = {"own": [{"cpu_us": 8.0}], "peer": [{"cpu_us": 10.0}]}
        found = [outcome(target, samples) for target in targets]
        floors = {"products": 1.0, "products and rows": 4.0}
        comparison = Comparison("train", "a test", contenders, targets, floors=floors)
        measured = Measured(comparison, samples, {}, {}, found)
        forbidden, missed = table([measured]).splitlines()[-2:]
        assert forbidden.endswith("| **no**; 2.5 at the floor |")
        assert missed.endswith("| **no** |")
        told = metrics([measured])["comparisons"][0]["outcomes"]
        assert [each["at_the_floor"] for each in told] == [2.5, 2.5]


@pytest.mark.parametrize("name", ["mlp", "deepfm", "dcn_v2", "din"])
def test_the_floor_of_the_default_sizes_is_of_what_the_backbones_have(name):
    item = {"cardinality": 9, "table": "item"}
    features = [
        ModelFeature("item", "categorical", **item, role="item"),
        ModelFeature("past", "categorical", **item, length=2),
    ]
    assert features[0].dim == DEFAULT_SIZES["dim"]
    backbone = get_backbone(name, features)
    sizes = {size: DEFAULT_SIZES[size] for size in DEFAULT_SIZES if hasattr(backbone, size)}
    assert "units" in sizes
    assert {size: list(np.atleast_1d(getattr(backbone, size))) for size in sizes} == {
        size: list(np.atleast_1d(value)) for size, value in sizes.items()
    }
