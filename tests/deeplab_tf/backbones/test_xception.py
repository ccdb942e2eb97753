"""Xception: what is between its depthwise and pointwise convolutions, in its three forms."""

import dataclasses

import keras
import pytest

from deeplab_tf.backbones import xception

pytestmark = pytest.mark.usefixtures("forget_networks")


def _between(after_depthwise):
    """Layer name -> names of the layers from a depthwise convolution to its pointwise one."""
    spec = dataclasses.replace(xception.SPECS["xception_tiny"], after_depthwise=after_depthwise)
    image = keras.Input((None, None, 3))
    with keras.StatelessScope(initialize_variables=False):  # most of the time
        features = xception.build(
            spec, image, output_stride=16, norm=xception.NORM, multi_grid=xception.MULTI_GRID
        )
    model = keras.Model(image, features.conv5)
    found = {}
    for layer in model.layers:
        if layer.name.endswith("_depthwise"):
            kinds, after = [], layer
            while not after.name.endswith("_pointwise"):
                (after,) = [node.operation for node in after._outbound_nodes]
                kinds.append(type(after).__name__)
            found[layer.name] = kinds[:-1]
    return found


def test_the_released_form_has_an_activation_in_the_last_module_alone():
    between = _between("norm")
    assert len(between) == 3 * (3 + 2 + 1 + 1)
    for name, kinds in between.items():
        assert kinds == ["BatchNorm", "ReLU"] if "exit_block2" in name else ["BatchNorm"], name


def test_the_form_of_the_text_has_an_activation_everywhere():
    assert all(kinds == ["BatchNorm", "ReLU"] for kinds in _between("norm_relu").values())


def test_the_plain_form_has_nothing_anywhere():
    assert all(kinds == [] for kinds in _between("nothing").values())


@pytest.mark.parametrize(
    ("name", "form"),
    [("xception65", "norm"), ("xception65_relu", "norm_relu"), ("xception65_plain", "nothing")],
)
def test_the_variants_of_65_differ_in_nothing_else(name, form):
    assert xception.SPECS[name].after_depthwise == form
    same = dataclasses.replace(xception.SPECS[name], after_depthwise="norm")
    assert same == xception.SPECS["xception65"]
