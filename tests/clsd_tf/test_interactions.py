"""Attention over a history that is padded, in a whole backbone."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from clsd_tf.backbones import get_backbone


@pytest.mark.parametrize("attention_units", [(), (5,), (5, 4)])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_din_leaves_padding_out_with_the_same_result(
    clicks, monkeypatch, request, attention_units, policy
):
    """As one matrix for each list, and as pairs: values and gradients of a batch with padding."""
    request.addfinalizer(lambda: keras.mixed_precision.set_global_policy("float32"))
    keras.mixed_precision.set_global_policy(policy)
    backbone = get_backbone("din", clicks.inputs, attention_units=attention_units)
    keep = np.random.default_rng(0).random((60, 5)) < 0.4
    keep[:3] = False
    inputs = {name: values[:60] for name, values in clicks.features.items()}
    inputs["history"] = inputs["history"] * keep
    backbone(inputs)

    def outputs(is_on_cpu):
        monkeypatch.setattr("clsd_tf.interactions.is_on_cpu", lambda: is_on_cpu)

        @tf.function
        def step():
            with tf.GradientTape() as tape:
                logits = backbone(inputs, training=True)
                loss = tf.reduce_sum(logits**2)
            return logits, tape.gradient(loss, backbone.trainable_weights)

        kinds = [op.type for op in step.get_concrete_function().graph.get_operations()]
        assert ("If" in kinds) == is_on_cpu
        logits, gradients = step()
        return [logits, *(tf.convert_to_tensor(gradient) for gradient in gradients)]

    near = 1e-4 if policy == "float32" else 0.05
    for of_lists, of_pairs in zip(outputs(False), outputs(True), strict=True):
        scale = np.max(np.abs(of_lists)) + 1e-6
        np.testing.assert_allclose(of_pairs, of_lists, atol=near * scale)


def test_a_saved_din_can_be_trained_on(clicks, tmp_path):
    backbone = get_backbone("din", clicks.inputs)
    inputs = {f.name: tf.constant(clicks.features[f.name][:20]) for f in clicks.inputs}
    backbone(inputs)
    backbone.save(tmp_path / "din", save_format="tf")
    loaded = tf.saved_model.load(str(tmp_path / "din"))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(loaded(inputs, training=True) ** 2)
    assert all(g is not None for g in tape.gradient(loss, loaded.trainable_variables))
