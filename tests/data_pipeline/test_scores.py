"""Scores beside the shards: of the right rows in any order, resumed, and refused where damaged."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pytest
import tensorflow as tf

from clsd_tf.features import TEACHER_LOGIT
from data_pipeline import row_windows
from data_pipeline.manifest import Manifest
from data_pipeline.reader import make_dataset, steps_per_epoch
from data_pipeline.scores import ScoreError
from data_pipeline.scoring import write_scores
from data_pipeline.sharing import worker_of, worker_share
from tests.marks import slow

LAYOUTS = ("columnar", "row")


def logit(features: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """A score that tells most rows apart."""
    ids = [tf.cast(features[name], tf.float32) for name in ("user_id", "item_id", "device")]
    return features["price"] + 3 * ids[0] + 50 * ids[1] - 1000 * ids[2]


def read(directory, scores, **options) -> list[dict[str, np.ndarray]]:
    """Features of each batch, as arrays."""
    dataset = make_dataset(directory, "train", 20, scores=scores, extra_columns=["_row"], **options)
    return [{k: v.numpy() for k, v in features.items()} for features, _, _ in dataset]


def score(directory, output_dir, scorers=(logit,), model="a"):
    return write_scores(directory, ["train"], output_dir, scorers, model=model)


@pytest.fixture
def small_windows(monkeypatch):
    monkeypatch.setattr(row_windows, "WINDOW_ROWS", 64)
    monkeypatch.setattr(row_windows, "_ROWS_AT_ONCE", 8)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "options",
    [
        {"shuffle": False},
        {"seed": 3, "epochs": 2},
        {"seed": 3, "epochs": 2, "skip_batches": 11},
        {"num_workers": 2, "worker_index": 1},
        {"num_workers": 5, "worker_index": 2},
        {"without_fold": (1, 3)},
        {"without_fold": (1, 5)},
    ],
)
def test_each_row_gets_its_own_score(generate, tmp_path, small_windows, layout, options):
    directory = generate(170).write("data", layout=layout)
    score(directory, tmp_path / "scores")
    batches = read(directory, tmp_path / "scores", **options)
    plain = make_dataset(directory, "train", 20, extra_columns=["_row"], **options)
    assert len(batches) == len(plain) > 1
    for batch, (features, _, _) in zip(batches, plain, strict=True):
        assert batch[TEACHER_LOGIT].dtype == np.float32
        np.testing.assert_array_equal(batch[TEACHER_LOGIT], logit(features))
        np.testing.assert_array_equal(batch["_row"], features["_row"])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("num_shards", "num_folds"), [slow(4, 2), (4, 4), (2, 3), (1, 3)])
def test_each_fold_is_scored_by_the_model_that_has_not_seen_it(
    generate, tmp_path, layout, num_shards, num_folds
):
    directory = generate(150).write("data", layout=layout, num_shards=num_shards)
    scorers = [lambda f, k=k: tf.fill(tf.shape(f["price"]), float(k)) for k in range(num_folds)]
    score(directory, tmp_path / "scores", scorers)
    whole = {
        int(row): int(fold)
        for batch in read(directory, tmp_path / "scores")
        for row, fold in zip(batch["_row"], batch[TEACHER_LOGIT], strict=True)
    }
    assert sorted(whole) == [*range(150)]
    for fold in range(num_folds):
        kept = read(directory, tmp_path / "scores", without_fold=(fold, num_folds))
        rows = [int(row) for batch in kept for row in batch["_row"]]
        assert sorted(rows) == sorted(row for row, other in whole.items() if other != fold)
        steps = steps_per_epoch(directory, "train", 20, without_fold=(fold, num_folds))
        assert len(kept) == steps


def test_more_folds_than_records_are_refused(generate):
    directory = generate(40).write("data", num_shards=1, block_rows=16)
    with pytest.raises(ValueError, match="'train' is too small for 4 folds.*40 rows in records of"):
        make_dataset(directory, "train", 10, without_fold=(0, 4))
    with pytest.raises(ValueError, match=r"`without_fold` must be .*Received: without_fold=\(2, 2"):
        make_dataset(directory, "train", 10, without_fold=(2, 2))


@pytest.mark.parametrize(("num_shards", "num_workers"), [(5, 2), (5, 5), (2, 3), (1, 4)])
def test_the_worker_of_a_record(generate, num_shards, num_workers):
    manifest = Manifest.load(generate(150).write("data", num_shards=num_shards))
    rows = [0] * num_workers
    for index, shard in enumerate(manifest.of_split("train")):
        for record, start in enumerate(range(0, shard.rows, 16)):
            sizes = {"num_shards": num_shards, "num_workers": num_workers}
            rows[worker_of(index, record, **sizes)] += min(16, shard.rows - start)
    shares = [worker_share(manifest, "train", num_workers, index) for index in range(num_workers)]
    assert rows == [sum(part.rows for part in share) for share in shares]


def test_an_interrupted_pass_goes_on_with_the_next_shard(generate, tmp_path):
    directory, scores = generate(150).write("data", num_shards=3), tmp_path / "scores"
    scored = []

    def killed_in_the_second_shard(features):
        scored.append(len(features["price"]))
        if len(scored) == 2:
            raise KeyboardInterrupt
        return logit(features)

    with pytest.raises(KeyboardInterrupt):
        score(directory, scores, [killed_in_the_second_shard])
    with pytest.raises(ScoreError, match="lacks the scores of shard train-00001.*Received: none"):
        read(directory, scores)
    score(directory, scores, [killed_in_the_second_shard])
    assert scored == [50, 50, 50, 50]
    undisturbed = tmp_path / "undisturbed"
    score(directory, undisturbed)
    for path in sorted(undisturbed.iterdir()):
        assert (scores / path.name).read_bytes() == path.read_bytes()
    score(directory, scores, [killed_in_the_second_shard])
    assert len(scored) == 4  # nothing was left to do


def test_a_damaged_sidecar_is_named_and_written_again(generate, tmp_path):
    directory, scores = generate(50).write("data"), tmp_path / "scores"
    path = scores / score(directory, scores).files[1].file
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    with pytest.raises(ScoreError, match=f"{path.name} are cut short or damaged.*`clsd-score`"):
        read(directory, scores)
    path.unlink()
    with pytest.raises(ScoreError, match=f"{path.name} are missing. .* Expected: 17 rows"):
        read(directory, scores)
    score(directory, scores)
    assert path.read_bytes() == whole
    (scores / "scores.json").write_text("{}")
    with pytest.raises(ScoreError, match="not a list of scores of this version"):
        read(directory, scores)


def test_scores_of_other_rows_are_refused(generate, tmp_path):
    one, scores = generate(60).write("one"), tmp_path / "scores"
    score(one, scores)
    with pytest.raises(ScoreError, match="Received: scores of another shard of that name, 20 rows"):
        read(generate(50).write("other"), scores)
    with pytest.raises(ScoreError, match="holds no scores. Received: no scores.json"):
        read(one, tmp_path)


def test_scores_of_another_model_are_not_mixed_in(generate, tmp_path):
    directory = generate(30).write("data")
    score(directory, tmp_path / "scores")
    with pytest.raises(ScoreError, match="scores of another model. Received: a. Expected: b"):
        score(directory, tmp_path / "scores", model="b")
    assert json.loads((tmp_path / "scores" / "scores.json").read_text())["model"] == "a"


def test_a_diverged_model_is_named_by_shard_and_row(generate, tmp_path):
    directory = generate(30).write("data")

    def diverged(features):
        logits = logit(features).numpy()
        logits[4] = np.nan
        return logits

    with pytest.raises(
        ScoreError, match="shard train-00000-of-00003.tfrecord is not finite.*row 4"
    ):
        score(directory, tmp_path / "scores", [diverged])
