"""Fixtures shared by the tests of the library."""

from __future__ import annotations

import pytest
import tensorflow as tf

# Has to precede every other use of TensorFlow in the process.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


# One for the whole session: each strategy numbers its collectives from the same start, and those of
# a second one in the process would clash with those of the first.
@pytest.fixture(scope="session")
def two_replicas() -> tf.distribute.MirroredStrategy:
    """Data parallelism over two virtual CPUs."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
