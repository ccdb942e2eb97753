"""Learning rate, weight decay, rate factors and SGD."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.training import optimizers as optimization
from deeplab_tf.model import DeepLabV3Plus
from deeplab_tf.weights import fit_released
from deeplab_tf.weights.deeplab_tf1 import recognise


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


def test_rate_rises_linearly_to_the_base_where_asked():
    def rate(step, burn_in):
        return optimization.poly_learning_rate(
            step,
            base_lr=0.5,
            total_steps=14,
            power=1.0,
            end_lr=0.1,
            slow_start_steps=4,
            slow_start_lr=0.1,
            burn_in=burn_in,
        )

    np.testing.assert_allclose([rate(s, "linear") for s in (0, 2, 4)], [0.1, 0.3, 0.5])
    np.testing.assert_allclose([rate(s, "constant") for s in (0, 2, 3, 4)], [0.1, 0.1, 0.1, 0.5])
    np.testing.assert_allclose([rate(s, "constant") for s in (9, 14, 15)], [0.3, 0.1, 0.1])


def test_rates_equal_the_released_codes(shared_dir):
    cases = json.loads((shared_dir / "reference" / "deeplab" / "x3_lr_poly.json").read_text())
    compared = 0
    for case in cases:
        config = case["config"]
        decay_steps = config.get("decay_steps")
        for step, rate in case["step_lr"]:
            ours = optimization.poly_learning_rate(
                step,
                base_lr=config["base"],
                total_steps=config["steps"],
                power=case["power"],
                end_lr=config.get("end", 0.0),
                decay_steps=None if decay_steps is None else int(decay_steps),
                slow_start_steps=config["slow"],
                slow_start_lr=config["slow_lr"],
                burn_in=config.get("burnin", "constant"),
            )
            # The released code computes 1 - step / steps in float32, where little is left of it
            # near the end.
            left = max(1 - step / config["steps"], 1e-9)
            assert ours == pytest.approx(rate, rel=1e-6 + 1e-7 / left, abs=1e-12), (config, step)
            compared += 1
    assert compared == 41


_LAST_LAYERS = ("logits", "image_pooling", "aspp", "concat_projection", "decoder")


@pytest.mark.parametrize(
    "fixture",
    [
        "01_xception_65_os16",
        "04_xception_41_os16",
        "05_resnet_v1_101_beta_os16_decoder",
        "06_resnet_v1_50_beta_os16_decoder",
        "08_mobilenet_v2_os16_released",
        "09_mobilenet_v2_os8_aspp_decoder",
        "12_resnet_v1_50_beta_os16_separable",
        "15_mobilenet_v2_dm05_os16",
        "18_xception_65_os32",
    ],
)
def test_decay_and_rate_factors_fall_on_the_released_codes_variables(shared_dir, fixture):
    text = (shared_dir / "reference" / "deeplab" / f"{fixture}.json").read_text()
    variables = json.loads(text)["variables"]
    # Each variable holds its own number, so that a weight of ours tells where it came from.
    numbers = {
        v["name"]: np.broadcast_to(np.float32(i), v["shape"]) for i, v in enumerate(variables)
    }
    arguments, num_classes = recognise(numbers)
    model = DeepLabV3Plus(**arguments).build(num_classes)
    fit_released(model, numbers)
    decayed = {id(v) for v in optimization.decayed_weights(model, "kernels")}
    # code: by parts of the name, 10 for the last layers, twice that for their biases
    multipliers = [("aspp_", 10.0), ("logits", 10.0), ("logits/bias", 20.0)]
    if arguments["decoder"]:
        multipliers.append(("decoder_", 10.0))
    factors = optimization.learning_rate_factors(model, multipliers)
    seen = set()
    for weight, factor in zip(model.trainable_variables, factors, strict=True):
        released = variables[int(weight.numpy().flat[0])]
        name = released["name"]
        assert (id(weight) in decayed) == released["l2"], name
        last = any(part in name for part in _LAST_LAYERS)
        assert factor == (10.0 if last else 1.0) * (2.0 if "biases" in name else 1.0), name
        seen.add(name)
    assert seen == {v["name"] for v in variables if "/moving_" not in v["name"]}
