"""Three steps of the released training code, and of ours, from the same weights."""

import functools
import importlib.util
import json

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.training.losses import CrossEntropy
from deeplab_tf.training.optimizers import SGD, decay_factors
from deeplab_tf.training.state import RunState
from deeplab_tf.training.step import train_step
from deeplab_tf.weights import deeplab_tf1, fit_weights, weights_by_name

# Our layer -> the released scope; both the convolutions and the normalizations after them.
_SCOPES = {
    "backbone_conv": "MobilenetV2/Conv",
    "backbone_block10_depthwise": "MobilenetV2/expanded_conv_10/depthwise",
    "backbone_block16_project": "MobilenetV2/expanded_conv_16/project",
    "aspp_image_pooling": "image_pooling",
    "aspp_conv0": "aspp0",
    "aspp_projection": "concat_projection",
    "logits": "logits/semantic",
}


def _released_name(name):
    layer, kind = name.split("/")
    scope = _SCOPES[layer.removesuffix("_bn")]
    if layer.endswith("_bn"):
        return f"{scope}/BatchNorm/{kind}"
    kernel = "depthwise_weights" if layer.endswith("_depthwise") else "weights"
    return f"{scope}/{'biases' if kind == 'bias' else kernel}"


def _three_steps(shared_dir, run, lr_multipliers):
    """Trains as the released run did.

    Returns:
      (one dict per step: what train_step returned, "l2" before it, and "released"; our name ->
      (start, ours, theirs) of the weights that the released run stored; its first gradient's norm).
    """
    directory = shared_dir / "reference" / "deeplab"
    expected = json.loads((directory / "x5_train.json").read_text())[run]
    stored = np.load(directory / f"x5_train_{run}.npz")
    rule_file = importlib.util.spec_from_file_location("weight_rule", directory / "weight_rule.py")
    rule = importlib.util.module_from_spec(rule_file)
    rule_file.loader.exec_module(rule)
    config = DeepLabV3PlusConfig(
        backbone="mobilenet_v2_dm05",
        atrous_rates=(),
        decoder=False,
        separable=False,
        dropout=0.0,
        batch_norm="synchronized" if expected["fine_tune_batch_norm"] else "frozen",
        upsample_logits=expected["upsample_logits"],
    )
    model = config.build(5, auxiliary=True)
    variables = json.loads((directory / "15_mobilenet_v2_dm05_os16.json").read_text())["variables"]
    shapes = {v["name"]: v["shape"] for v in variables}
    for name, shape in shapes.items():
        if name.startswith("logits/"):
            shape[-1] = 5
    start = {name: rule.make_weight(name, shape) for name, shape in shapes.items()}
    fit_weights(model, deeplab_tf1.to_our_names(start, model))
    options = SGD(
        momentum=0.9,
        weight_decay=expected["weight_decay"],
        decay_on="kernels",
        lr_multipliers=lr_multipliers,
    )
    optimizer = options.build(model)
    decays = list(zip(model.trainable_variables, decay_factors(model, options), strict=True))
    pixel_loss = functools.partial(CrossEntropy(), ignore_label=expected["ignore_label"])
    steps = []
    for i, step in enumerate(expected["steps"]):
        l2 = sum(decay * float(tf.nn.l2_loss(weight.value)) for weight, decay in decays)
        result = train_step(
            model,
            optimizer,
            RunState(),
            config.losses(pixel_loss),
            {
                "image": tf.constant(stored["images"][i], tf.float32),
                "label": tf.constant(stored["labels"][i][..., 0], tf.int32),
            },
            learning_rate=tf.constant(step["lr"], tf.float32),
        )
        steps.append({"released": step, "l2": l2, **{k: float(v) for k, v in result.items()}})
    final = {}
    for name, weight in weights_by_name(model).items():
        layer = name.split("/")[0].removesuffix("_bn")
        released = _released_name(name) if layer in _SCOPES else ""
        if f"final|{released.replace('/', '|')}" in stored:
            theirs = stored[f"final|{released.replace('/', '|')}"]
            ours, first = weight.numpy().ravel(), start[released].ravel()
            final[name] = (first[: theirs.size], ours[: theirs.size], theirs)
    assert len(final) == sum(name.startswith("final|") for name in stored)
    norms = expected["grad_norm_step0_before_multipliers"]
    return steps, final, np.sqrt(sum(norm**2 for norm in norms.values()))


def test_steps_with_batch_statistics_equal_the_released_codes(shared_dir):
    # code: biases learn at twice the rate
    steps, final, norm = _three_steps(shared_dir, "bn_on", [("logits/bias", 2.0)])
    assert steps[0]["gradient_norm"] == pytest.approx(norm, rel=1e-4)
    # The image-pooling branch normalizes over two pixels, which makes the network's training
    # ill-conditioned: another 1e-8 in epsilon moves the third loss by 6e-3.
    for step, tolerance in zip(steps, (1e-6, 1e-4, 1e-2), strict=True):
        assert step["l2"] == pytest.approx(step["released"]["l2"], rel=1e-5)
        assert step["loss"] == pytest.approx(step["released"]["ce"], rel=tolerance)
    for name, (start, ours, theirs) in final.items():
        if name.endswith("/moving_variance"):
            np.testing.assert_allclose(ours, theirs, rtol=5e-4, err_msg=name)
        elif name.endswith(("/kernel", "/bias", "projection_bn/beta")):
            update, expected = ours - start, theirs - start
            slope = update @ expected / (expected @ expected)
            assert slope == pytest.approx(1, abs=0.03), name
            assert np.corrcoef(update, expected)[0, 1] > 0.97, name


def test_steps_with_frozen_statistics_and_fast_last_layers_equal_the_released_codes(shared_dir):
    """The last layers at 10 times the rate, their bias at twice that; logits not upsampled."""
    multipliers = [("aspp_", 10.0), ("logits", 10.0), ("logits/bias", 20.0)]
    steps, final, norm = _three_steps(shared_dir, "bn_frozen_lastx10", multipliers)
    assert steps[0]["gradient_norm"] == pytest.approx(norm, rel=1e-5)
    for step in steps:
        assert step["l2"] == pytest.approx(step["released"]["l2"], rel=1e-5)
        assert step["loss"] == pytest.approx(step["released"]["ce"], rel=1e-5)
    for name, (start, ours, theirs) in final.items():
        if "/moving_" in name:
            np.testing.assert_array_equal(ours, start, err_msg=name)
            np.testing.assert_array_equal(theirs, start, err_msg=name)
        else:
            change = np.abs(theirs - start).max()
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * change, err_msg=name)
