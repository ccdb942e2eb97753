"""Named arrays get into a model whole, or nothing is assigned."""

import re

import numpy as np
import pytest

from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.weights import fit_weights, weights_by_name


def _arrays(model):
    return {name: w.numpy() + 1 for name, w in weights_by_name(model).items()}


def test_misfit_lists_both_sides_and_assigns_nothing():
    model = DeepLabV3PlusConfig(backbone="mobilenet_v2_tiny", decoder=False).build(3)
    before = [w.numpy() for w in model.weights]
    arrays = _arrays(model)
    del arrays["logits/bias"]
    arrays["logits/kernel"] = np.zeros((1, 1, 256, 5))
    arrays["logits/offset"] = np.zeros(3)
    with pytest.raises(ValueError, match=re.escape("1 missing (- logits/bias), 1 of another")) as e:
        fit_weights(model, arrays)
    assert "(1, 1, 256, 5), model (1, 1, 256, 3)" in str(e.value)
    assert "1 unused (+ logits/offset)" in str(e.value)
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


def test_partial_fit_loads_the_backbone_and_leaves_the_other_classes():
    source = DeepLabV3PlusConfig(backbone="mobilenet_v2_tiny", decoder=False).build(3)
    target = DeepLabV3PlusConfig(backbone="mobilenet_v2_tiny").build(5)
    arrays = _arrays(source)
    report = fit_weights(target, arrays, partial=True)
    assert set(report.misfit) == {"logits/kernel", "logits/bias"}
    assert all(name.startswith("decoder_") for name in report.missing)
    np.testing.assert_array_equal(
        target.get_layer("backbone_conv").kernel.numpy(), arrays["backbone_conv/kernel"]
    )


def test_partial_fit_refuses_another_backbone():
    source = DeepLabV3PlusConfig(backbone="mobilenet_v2_dm035").build(3)
    target = DeepLabV3PlusConfig(backbone="mobilenet_v2_tiny").build(3)
    with pytest.raises(ValueError, match="do not fit the backbone"):
        fit_weights(target, _arrays(source), partial=True)
