"""ResNet as DeepLab released it: which feature maps the decoder reads."""

import keras
import pytest

from deeplab_tf.backbones import build_backbone

pytestmark = pytest.mark.usefixtures("forget_networks")


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_the_decoder_reads_the_last_units_before_striding_before_their_activation(output_stride):
    image = keras.Input((None, None, 3))
    with keras.StatelessScope(initialize_variables=False):  # most of the time
        features = build_backbone("resnet101", image, output_stride=output_stride)
    made_by = {
        level: tensor._keras_history.operation.name
        for level, tensor in features.low_level_features.items()
    }
    # code: resnet_v1_101/block1/unit_2 and block2/unit_3, bottleneck_v1/conv3
    assert made_by == {
        "conv2": "backbone_block1_unit2_conv3_bn",
        "conv3": "backbone_block2_unit3_conv3_bn",
    }
    # FastFCN reads the units' outputs.
    assert features.conv3._keras_history.operation.name == "backbone_block2_unit3_relu"
    assert [level.shape[-1] for level in features.low_level_features.values()] == [256, 512]
