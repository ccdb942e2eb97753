"""Names of weights tell the code base; other networks are named and refused."""

import numpy as np
import pytest

from deeplab_tf.weights import deeplab_tf1
from deeplab_tf.weights.naming import find_naming
from jpu_tf import weights as fastfcn

NAMINGS = (deeplab_tf1.NAMING, fastfcn.NAMING)


def _arrays(*names):
    return {name: np.zeros((3, 3, 3, 32), np.float32) for name in names}


@pytest.mark.parametrize(
    ("names", "network"),
    [
        (("MobilenetV3/Conv/weights", "logits/semantic/weights"), "MobileNetV3"),
        (("MobilenetEdgeTPU/Conv/weights",), "EdgeTPU-DeepLab"),
        (
            (
                "xception_71/entry_flow/conv1_1/weights",
                "meta_architecture/branch0_depthwise/depthwise_weights",
            ),
            "a dense prediction cell",
        ),
        (("pnasnet/conv0/weights",), "architecture search"),
        (("resnet_v1_18/conv1/weights",), "a ResNet other than ResNet-50 and ResNet-101"),
        (("conv1.weight", "layer1.0.conv1.weight"), "a plain ResNet of torchvision"),
        (("module.conv1.weight", "module.fc.bias"), "a plain ResNet of torchvision"),
        (("backbone.conv1.weight", "classifier.0.convs.0.0.weight"), "segmentation network of tor"),
    ],
)
def test_networks_that_are_not_here_are_named(names, network):
    with pytest.raises(ValueError, match=f"are those of .*{network}.*does not have; one is"):
        find_naming(_arrays(*names), NAMINGS)


def test_a_checkpoint_of_a_training_run_is_named():
    name = "model/backbone_conv\\.Skernel/.ATTRIBUTES/VARIABLE_VALUE"
    with pytest.raises(ValueError, match="a training run. Open the run's workdir with deeplab_tf"):
        find_naming(_arrays(name), NAMINGS)


def test_unknown_names_are_listed_beside_the_known_ones():
    names = [f"block{i}/kernel" for i in range(10)]
    message = (
        r"must have the names of DeepLab's TensorFlow 1 code \(MobilenetV2/..., .*\) or FastFCN's"
        r" PyTorch code \(pretrained.conv1.0.weight.*; got block0/kernel, .* and 2 more"
    )
    with pytest.raises(ValueError, match=message):
        find_naming(_arrays(*names), NAMINGS)


@pytest.mark.parametrize(
    ("name", "naming"),
    [("MobilenetV2/Conv/weights", deeplab_tf1.NAMING), ("resnet_v1_50/a", deeplab_tf1.NAMING)],
)
def test_names_find_their_naming(name, naming):
    found, recognized = find_naming(_arrays(name), NAMINGS)
    assert found is naming and recognized.num_classes is None
