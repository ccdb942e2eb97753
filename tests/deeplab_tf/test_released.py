"""The table of released checkpoints agrees with what its models cost."""

import keras
import pytest

from deeplab_tf.data.datasets.release import RELEASES
from deeplab_tf.layers.multiply_adds import multiply_adds
from deeplab_tf.released import RELEASED

pytestmark = pytest.mark.usefixtures("forget_networks")


@pytest.mark.parametrize("name", sorted(n for n, r in RELEASED.items() if r.scores))
def test_networks_cost_what_the_model_zoo_says(name):
    row = RELEASED[name]
    for score in row.scores:
        if score.multiply_adds is None:
            continue
        config = row.model.replace(output_stride=score.output_stride)
        with keras.StatelessScope(initialize_variables=False):
            model = config.build(row.num_classes)
        cost = multiply_adds(
            model, row.image_size, scales=score.scales, flip=score.flip, counting="paper"
        )
        assert cost / 1e9 == pytest.approx(score.multiply_adds, rel=3e-3, abs=0.006)


@pytest.mark.parametrize("name", sorted(n for n, r in RELEASED.items() if r.dataset))
def test_classes_are_the_datasets(name):
    row = RELEASED[name]
    others = row.num_classes - len(RELEASES[row.dataset].class_names)
    assert others == row.extra_class
