"""What every test needs: one TensorFlow process with two virtual CPUs, and the shared real log."""

from __future__ import annotations

import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported

import pytest
import tensorflow as tf
import tf_keras as keras

from tests import shop

# Has to precede every other use of TensorFlow in the process.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Initial weights are the same whichever tests run, and in whatever order."""
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def shop_encoder(tmp_path_factory):
    """The encoder of `tests.shop`."""
    return shop.make_encoder(tmp_path_factory.mktemp("shop") / "encoding")


@pytest.fixture(scope="session")
def shop_model(shop_encoder):
    """A student of the shop with its teacher. Not to be changed."""
    keras.utils.set_random_seed(0)
    return shop.make_model(shop_encoder)


@pytest.fixture(scope="session")
def shop_export(shop_model, shop_encoder, tmp_path_factory) -> pathlib.Path:
    """Version 1 of its export, with warm-up requests. Not to be changed."""
    from clsd_tf.export import export_model

    base = tmp_path_factory.mktemp("served") / "shop"
    return export_model(shop_model, shop_encoder, base, warmup_requests=2)


@pytest.fixture(scope="session")
def shop_served(shop_export):
    """The signatures of the export, loaded."""
    loaded = tf.saved_model.load(str(shop_export))
    yield loaded.signatures


# One for the whole session: each strategy numbers its collectives from the same start, and those of
# a second one in the process would clash with those of the first.
@pytest.fixture(scope="session")
def two_replicas() -> tf.distribute.MirroredStrategy:
    """Data parallelism over two virtual CPUs."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture(scope="session")
def kuairand_directory() -> pathlib.Path:
    """The directory of a real click log in the official file names of KuaiRand-Pure."""
    beside = pathlib.Path(__file__).resolve().parents[1].parent / "shared"
    shared = pathlib.Path(os.environ.get("CLSD_SHARED", beside))
    directory = shared / "data" / "kuairand" / "KuaiRand-Pure"
    if not directory.is_dir():
        pytest.skip(f"There is no KuaiRand log at {directory}; CLSD_SHARED says where it is.")
    return directory
