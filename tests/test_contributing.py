import pathlib
import re
import sys
import types

import keras

TEXT = pathlib.Path(__file__).parent.parent.joinpath("docs/CONTRIBUTING.md").read_text("utf-8")


def test_the_example_of_a_backbone_is_a_backbone(monkeypatch):
    plainnet = types.ModuleType("plainnet")
    monkeypatch.setitem(sys.modules, "plainnet", plainnet)  # where dataclasses look
    exec(re.search(r"```python\n(.+?)```", TEXT, re.DOTALL)[1], vars(plainnet))
    image = keras.Input((64, 96, 3))
    features = plainnet.build(
        plainnet.SPECS["plainnet_tiny"], image, output_stride=16, norm=plainnet.NORM
    )
    assert features.conv2.shape == (None, 16, 24, 8)
    assert features.conv3.shape == (None, 8, 12, 16)
    assert features.conv4.shape == (None, 4, 6, 16)
    assert features.conv5.shape == (None, 4, 6, 32)
    layers = keras.Model(image, features.conv5).layers[1:]
    assert all(layer.name.startswith("backbone_") for layer in layers)
