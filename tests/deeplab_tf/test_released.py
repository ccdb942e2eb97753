"""The table of released checkpoints agrees with what its models cost."""

import keras
import pytest

from deeplab_tf.data.datasets.release import RELEASES
from deeplab_tf.evaluation.resized_image import ResizedImage
from deeplab_tf.evaluation.whole_image import WholeImage
from deeplab_tf.layers.multiply_adds import multiply_adds
from deeplab_tf.released import NOT_OF_THE_PAPERS, RELEASED, released_checkpoint

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


def test_ade20k_is_scored_resized_and_the_others_are_padded():
    for name, row in RELEASED.items():
        for score in row.scores:
            found = row.predict(score)
            if row.dataset == "ade20k":
                # code: side 513, or 257 with MobileNetV2, multiples of 16 plus 1
                side = 257 if "mobilenetv2" in name else 513
                expected = ResizedImage(min_side=side, max_side=side, factor=16, pad=True)
            else:
                size = (1025, 2049) if row.dataset == "cityscapes" else (513, 513)
                expected = WholeImage(pad_size=size)
            assert found == expected.replace(
                scales=score.scales, flip=score.flip, output_stride=score.output_stride
            )


@pytest.mark.parametrize("name", sorted(NOT_OF_THE_PAPERS))
def test_rows_of_neither_paper_are_refused_as_what_they_are(name):
    assert name not in RELEASED
    with pytest.raises(ValueError, match=f"^{name} is DeepLab .*, a network of neither paper"):
        released_checkpoint(name)


def test_an_unknown_row_is_refused():
    with pytest.raises(ValueError, match="unknown released checkpoint 'xception65_voc'"):
        released_checkpoint("xception65_voc")
