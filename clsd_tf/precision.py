"""What a backbone computes in: float32, or bfloat16 with weights and logits in float32."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

PRECISIONS = ("float32", "mixed_bfloat16")
# The policy of Keras is one for all threads.
_ONE_AT_A_TIME = threading.RLock()


def check_precision(precision: str) -> None:
    """Raises ValueError unless `precision` is one of `PRECISIONS`."""
    if precision not in PRECISIONS:
        raise ValueError(
            f"A backbone computes in one of: {', '.join(PRECISIONS)}. Received: {precision!r}. "
            "mixed_float16 needs a loss that is scaled, which the whole model has to know of: call "
            "`keras.mixed_precision.set_global_policy` before anything is built."
        )


@contextlib.contextmanager
def computing_in(precision: str | None) -> Iterator[None]:
    """Layers that are made in this context have `precision` for their policy.

    Such contexts of several threads wait for each other; what a thread makes outside of one is not
    protected.

    Args:
      precision: one of `PRECISIONS`; None for the global policy of Keras, whichever that is.

    Raises:
      ValueError: it is none of them.
    """
    if precision is None:
        yield
        return
    check_precision(precision)
    import tf_keras as keras

    with _ONE_AT_A_TIME:
        before = keras.mixed_precision.global_policy()
        keras.mixed_precision.set_global_policy(precision)
        try:
            yield
        finally:
            keras.mixed_precision.set_global_policy(before)
