"""An export as TensorFlow loads it, answering requests that can be timed.

    seconds = answer_requests("served/model/3", encoder, "examples", candidates=100, count=200)
    p50, p99 = np.percentile(seconds, [50, 99])

A request is one user with so many candidates, in one of the forms that the export takes.
"""

from __future__ import annotations

import pathlib
import time
from collections.abc import Mapping
from typing import Literal

import numpy as np
import tensorflow as tf

from clsd_tf import Encoder
from clsd_tf.requests import to_candidates, to_dense, to_encoded, to_example
from clsd_tf.sample_rows import sample_request

# Form -> signature. The first three take raw features, the last one takes them encoded.
FORMS = {
    "examples": "serving_default",
    "features": "predict_features",
    "candidates": "predict_candidates",
    "encoded": "predict_encoded",
}
Form = Literal["examples", "features", "candidates", "encoded"]
_WARM_UP = 5


class ServedModel:
    """The signatures of an export. Nothing of the code that made it is used.

    Args:
      path: of a version, such as served/click_model/3.

    Raises:
      ValueError: there is no export at `path`.
    """

    def __init__(self, path: str | pathlib.Path):
        """See the class."""
        self.path = pathlib.Path(path)
        if not tf.saved_model.contains_saved_model(str(path)):
            raise ValueError(
                f"There is no export at {path}. Received: a place without saved_model.pb. "
                "Expected: a version that `clsd-export` wrote, such as served/click_model/1."
            )
        self._loaded = tf.saved_model.load(str(path))

    def answer(self, signature: str, inputs: Mapping[str, np.ndarray | tf.Tensor]) -> np.ndarray:
        """The `outputs` of a signature: float32 [batch], or [batch, candidates].

        Raises:
          ValueError: the export has no such signature.
          tf.errors.InvalidArgumentError: it does not take such inputs.
        """
        if signature not in self._loaded.signatures:
            known = ", ".join(self._loaded.signatures)
            raise ValueError(
                f"{self.path} has no signature '{signature}'. Received: that name. Expected one "
                f"of: {known}."
            )
        tensors = {name: tf.convert_to_tensor(values) for name, values in inputs.items()}
        return self._loaded.signatures[signature](**tensors)["outputs"].numpy()


def make_request(
    encoder: Encoder, form: Form, candidates: int, seed: int = 0
) -> dict[str, tf.Tensor]:
    """Inputs of the signature of `form`: a made-up user with made-up candidates."""
    once, items = sample_request(encoder, candidates, seed)
    rows = [{**once, **item} for item in items]
    arrays: Mapping[str, object]
    if form == "examples":
        arrays = {"inputs": [to_example(encoder.spec, row).SerializeToString() for row in rows]}
    elif form == "features":
        arrays = to_dense(encoder.spec, rows)
    elif form == "candidates":
        arrays = to_candidates(encoder.spec, once, items)
    elif form == "encoded":
        arrays = to_encoded(encoder, rows)
    else:
        raise ValueError(
            f"Unknown form of requests. Received: {form!r}. Expected one of: {', '.join(FORMS)}."
        )
    return {name: tf.constant(values) for name, values in arrays.items()}


def answer_requests(
    export: str | pathlib.Path | ServedModel,
    encoder: Encoder,
    form: Form,
    *,
    candidates: int,
    count: int,
    seed: int = 0,
) -> np.ndarray:
    """Answers requests one after the other, after a few that warm the signature up.

    Args:
      export: path of a version, or one that is loaded.
      encoder: of the model, from which values of requests are drawn.
      form: of the requests; they are made before the clock runs.
      candidates: scored in each request.
      count: of requests.
      seed: of the values.

    Returns:
      Seconds that each answer took, float64 [count].
    """
    model = export if isinstance(export, ServedModel) else ServedModel(export)
    # Some differ, as those of users would; making more would only take time.
    requests = [make_request(encoder, form, candidates, seed + i) for i in range(min(count, 16))]
    for request in requests[:_WARM_UP]:
        model.answer(FORMS[form], request)
    seconds = []
    for number in range(count):
        request = requests[number % len(requests)]
        started = time.perf_counter()
        model.answer(FORMS[form], request)
        seconds.append(time.perf_counter() - started)
    return np.array(seconds)
