"""Learning rate, weight decay, rate factors and SGD."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf import optimization
from deeplab_tf.model import DeepLabV3Plus


def test_poly_rate_falls_from_base_to_zero():
    rates = [
        optimization.poly_learning_rate(step, base_lr=0.5, total_steps=4, power=0.9)
        for step in (0, 2, 4, 5)
    ]
    np.testing.assert_allclose(rates, [0.5, 0.5 * 0.5**0.9, 0.0, 0.0])


def test_momentum_keeps_the_rate_out_of_the_velocity():
    variable = keras.Variable([1.0, 2.0])
    optimizer = optimization.Momentum([variable], 0.5)
    for rate in (0.1, 0.01):
        optimizer.apply([tf.constant([1.0, -1.0])], tf.constant(rate), [1.0])
    # v: 1, then 0.5 * 1 + 1 = 1.5; w: 1 - 0.1 * 1 - 0.01 * 1.5
    np.testing.assert_allclose(variable.numpy(), [0.885, 2.115], rtol=1e-6)


def _model():
    return DeepLabV3Plus(backbone="mobilenet_v2_tiny").build(3)


def test_kernels_alone_decay_in_deeplabs_protocol():
    model = _model()
    names = {w.path for w in optimization.decayed_weights(model, "kernels")}
    assert {"logits/kernel", "aspp_conv0/kernel", "backbone_block1_expand/kernel"} <= names
    assert not any("depthwise/" in name or "_bn/" in name or "bias" in name for name in names)


def test_everything_decays_in_fastfcns_protocol():
    model = _model()
    assert len(optimization.decayed_weights(model, "all")) == len(model.trainable_variables)


def test_longest_prefix_decides_the_rate_factor():
    model = _model()
    factors = optimization.learning_rate_factors(
        model, [("backbone_", 0.1), ("backbone_block0", 0.5), ("logits/bias", 2.0)]
    )
    by_path = {v.path: f for v, f in zip(model.trainable_variables, factors, strict=True)}
    assert by_path["backbone_conv/kernel"] == 0.1
    assert by_path["backbone_block0_depthwise/kernel"] == 0.5
    assert by_path["logits/bias"] == 2.0
    assert by_path["logits/kernel"] == 1.0
    assert by_path["aspp_conv0/kernel"] == 1.0


def test_prefix_of_no_layer_is_refused():
    with pytest.raises(ValueError, match=r"no trainable weight begins with \['head'\]; .*backbone"):
        optimization.learning_rate_factors(_model(), [("head", 10.0)])


def test_poly_rates_equal_the_released_codes(shared_dir):
    cases = json.loads((shared_dir / "reference" / "deeplab" / "x3_lr_poly.json").read_text())
    compared = 0
    for case in cases:
        config = case["config"]
        if config["slow"] or "end" in config:
            continue  # a slow start, and an end other than 0, are not offered
        for step, rate in case["step_lr"]:
            ours = optimization.poly_learning_rate(
                step, base_lr=config["base"], total_steps=config["steps"], power=case["power"]
            )
            # The released code computes 1 - step / steps in float32.
            assert ours == pytest.approx(rate, rel=2e-3, abs=1e-12)
            assert step > 0.9 * config["steps"] or ours == pytest.approx(rate, rel=1e-5)
            compared += 1
    assert compared >= 10
