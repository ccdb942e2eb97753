"""The semantic encoding loss."""

import functools
import json

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.training.losses import CrossEntropy
from jpu_tf.heads import Encoding
from jpu_tf.losses import class_presence_loss
from jpu_tf.model import FastFCNConfig


def _softplus(x):
    return np.log1p(np.exp(x))


@pytest.mark.parametrize("void", [255, -1, 3])
def test_it_is_the_cross_entropy_of_which_classes_are_there(void):
    label = np.array([[[0, 0], [2, void]], [[void, void], [void, void]]], np.int32)
    logits = np.array([[1.0, -2.0, 0.5], [0.3, 4.0, -1.0]], np.float32)
    total, count = class_presence_loss(label, logits)
    there = [-logits[0, 0], -logits[0, 2]]  # softplus(-x) where the class is there
    absent = [logits[0, 1], *logits[1]]
    np.testing.assert_allclose(total, sum(map(_softplus, there + absent)), rtol=1e-6)
    assert count == 6.0


def test_the_number_of_pixels_of_a_class_does_not_matter():
    logits = np.array([[1.0, -2.0]], np.float32)
    few = np.full((1, 8, 8), 255, np.int32)
    few[0, 0, 0] = 1
    many = np.where(few == 255, 1, few)
    assert class_presence_loss(few, logits)[0] == class_presence_loss(many, logits)[0]


def test_weighted_sum_is_the_released_codes(shared_dir):
    directory = shared_dir / "reference" / "fastfcn"
    expected = json.loads((directory / "extras_small.json").read_text())["losses"]
    arrays = np.load(directory / "extras_small.npz")
    label = arrays["losses/target"].astype(np.int32)
    outputs = {
        "logits": tf.constant(arrays["losses/logits"]),
        "aux_logits": tf.constant(arrays["losses/aux_logits"]),
        "se_logits": tf.constant(arrays["losses/se_pred"]),
    }

    pixel_loss = functools.partial(CrossEntropy(), ignore_label=-1)
    for name, options in (
        ("se0.2_aux0.2", {}),
        ("se_only_w0.2", {"aux_weight": 0.0}),
        ("aux_only_w0.4", {"aux_weight": 0.4, "head": Encoding(se_weight=0.0)}),
    ):
        total = 0.0
        for output, (loss_fn, weight) in FastFCNConfig(**options).losses(pixel_loss).items():
            value, count = loss_fn(label, outputs[output])
            total += weight * value / count
        np.testing.assert_allclose(total, expected[name], rtol=1e-6)
