"""The recipes for CamVid: what they promise each other, not their numbers."""

import dataclasses

import pytest

from deeplab_tf import zoo
from deeplab_tf.data.datasets.release import RELEASES
from deeplab_tf.layers.atrous import farthest_reach
from deeplab_tf.released import RELEASED

_CAMVID = {name: r for name, r in zoo.RECIPES.items() if name.startswith("camvid_")}
_HALF = {name: r for name, r in _CAMVID.items() if name.startswith("camvid_half_")}
_NUM_CLASSES = len(RELEASES["camvid"].class_names)


def _parts(config, prefix=""):
    """Every option of a part and of the parts in it, by place."""
    found = {f"{prefix}kind": config.kind}
    for field in dataclasses.fields(config):
        value, place = getattr(config, field.name), f"{prefix}{field.name}"
        found |= _parts(value, f"{place}.") if hasattr(value, "kind") else {place: value}
    return found


@pytest.mark.parametrize("name", _CAMVID)
def test_training_sees_neither_val_nor_test(name):
    recipe = _CAMVID[name]
    assert (recipe.dataset.kind, recipe.dataset.name) == ("release", "camvid")
    assert (recipe.train.split, recipe.eval.split) == ("train", "val")


@pytest.mark.parametrize("name", _CAMVID)
def test_val_does_not_choose_the_best_weights(name):
    train = _CAMVID[name].train
    assert train.eval_every >= train.total_steps(RELEASES["camvid"].parts[0].splits["train"])
    assert train.patience is None


@pytest.mark.parametrize("name", _CAMVID)
def test_a_crop_has_the_size_of_the_images_that_are_predicted(name):
    (crop,) = (part for part in _CAMVID[name].augment if part.kind == "random_crop")
    scale = 0.5 if name in _HALF else 1.0
    assert crop.shape == (360 * scale, 480 * scale)
    assert scale in _CAMVID[name].predict.scales


@pytest.mark.parametrize("name", _CAMVID)
def test_all_weights_of_the_network_are_trained(name):
    recipe = _CAMVID[name]
    (crop,) = (part for part in recipe.augment if part.kind == "random_crop")
    reach = farthest_reach(recipe.model.build(_NUM_CLASSES, auxiliary=True), *crop.shape)
    assert reach is None or reach.inside >= 0.25


def test_all_start_from_one_released_network():
    (start,) = {zoo.STARTS[name] for name in _CAMVID}
    backbones = {recipe.model.backbone for recipe in _CAMVID.values()}
    assert backbones == {RELEASED[start].model.backbone}


def test_both_networks_for_whole_photos_are_trained_alike():
    best, other = _CAMVID["camvid_best"], _CAMVID["camvid_deeplabv3plus"]
    assert best.model.kind != other.model.kind
    assert dataclasses.replace(best, model=other.model, predict=other.predict) == other


@pytest.mark.parametrize(
    ("name", "other", "differ"),
    [
        ("no_decoder", "decoder", {"decoder"}),
        ("not_separable", "decoder", {"separable"}),
        ("no_pooling", "decoder", {"image_pooling"}),
        ("encoding_bilinear", "encoding_none", {"upsampler"}),
        ("encoding_jpu", "encoding_none", {"upsampler"}),
        ("deeplab_jpu", "encoding_jpu", {"head"}),
    ],
)
def test_networks_that_are_compared_differ_by_one_choice(name, other, differ):
    one, two = _HALF[f"camvid_half_{name}"], _HALF[f"camvid_half_{other}"]
    assert dataclasses.replace(one, model=two.model) == two
    one, two = _parts(one.model), _parts(two.model)
    changed = {place for place in one.keys() | two.keys() if one.get(place) != two.get(place)}
    assert {place.partition(".")[0] for place in changed} == differ
