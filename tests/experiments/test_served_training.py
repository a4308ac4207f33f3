"""Training through an input service: what a trainer learns that reads by itself, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from data_pipeline.service_client import InputService, InputServiceError
from experiments.fits import FitCache
from experiments.fitting import Fitter
from experiments.runs import Run
from experiments.training import train_run
from tests.experiments.helpers import Killed, kill_after, scores_of
from tests.services import ServiceProcess, free_port


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Iterator[InputService]:
    with ServiceProcess(tmp_path_factory.mktemp("service")) as process:
        yield InputService(process.address)


def begun(directory, config) -> Run:
    run = Run(directory)
    run.begin(config, overwrite=False)
    return run


@pytest.mark.slow
def test_an_interrupted_run_ends_as_one_that_reads_by_itself(
    tmp_path, configure, train, service, monkeypatch
):
    config = configure("plain", epochs=2)
    own = train(tmp_path / "own", config)
    run = begun(tmp_path / "through", config)
    with monkeypatch.context() as patch:
        kill_after(patch, 130)  # in the second epoch
        with pytest.raises(Killed):
            train_run(run, config, checkpoint_steps=20, service=service)
    metrics = train_run(run, config, checkpoint_steps=20, service=service)
    np.testing.assert_array_equal(scores_of(run), scores_of(own))
    expected = json.loads(own.results.read_text())["metrics"]["student"]["epochs"]
    assert metrics["student"]["epochs"][-1]["val_loss"] == expected[-1]["val_loss"]


@pytest.mark.slow
def test_fits_of_a_comparison_read_through_it(tmp_path, configure, service):
    config = configure("plain")
    scored = [
        Fitter(FitCache(tmp_path / name), lambda *_: None, reads).scored(config, "valid").scores
        for name, reads in (("own", None), ("through", service))
    ]
    np.testing.assert_array_equal(*scored)


def test_a_run_does_not_begin_without_its_service(tmp_path, configure):
    nowhere = InputService(f"grpc://localhost:{free_port()}")
    run = begun(tmp_path / "run", configure("plain"))
    with pytest.raises(InputServiceError, match="Received: no connection"):
        train_run(run, run.config(), checkpoint_steps=20, service=nowhere)
