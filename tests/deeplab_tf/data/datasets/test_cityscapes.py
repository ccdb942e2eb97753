"""Cityscapes from the official archives."""

import numpy as np
import pytest

from deeplab_tf.data.datasets import cityscapes

NUMBERS = np.array([[0, 3, 7, 8, 11, 33, 29, 255]] * 6, np.uint8)
CLASSES = [255, 255, 0, 1, 2, 18, 255, 255]


def _stem(city: str) -> str:
    return f"{city}/{city}_000000_000019"


@pytest.fixture
def streets(release):
    for split, city in {"train": "aachen", "val": "munster", "test": "berlin"}.items():
        release.image(f"leftImg8bit/{split}/{_stem(city)}_leftImg8bit.png")
        for kind in ("labelIds", "instanceIds"):
            release.label(f"gtFine/{split}/{_stem(city)}_gtFine_{kind}.png", NUMBERS)
    return release


def test_classes_and_numbers():
    numbers = {s: n for part in cityscapes.DATASET.parts for s, n in part.splits.items()}
    assert numbers == {"train": 2975, "val": 500, "test": 1525, "train_extra": 19997}
    # The numbers that the authors' code writes for the server, in the order of the classes.
    assert [number for number, _ in cityscapes.CLASSES.values()] == [
        *(7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
    ]


def test_numbers_become_19_classes_and_test_is_void(streets, labels):
    streets.pack("leftImg8bit_trainvaltest.zip", "leftImg8bit")
    streets.pack("gtFine_trainvaltest.zip", "gtFine")
    dataset = streets.prepare("cityscapes")
    assert dataset.spec.splits == {"train": 1, "val": 1, "test": 1, "trainval": 2}
    assert labels(dataset, "train")["aachen_000000_000019"][0].tolist() == CLASSES
    assert labels(dataset, "val")["munster_000000_000019"][0].tolist() == CLASSES
    assert np.unique(labels(dataset, "test")["berlin_000000_000019"]) == [255]


@pytest.fixture
def coarse(streets):
    """Coarse labels of train and of two more images, one of which is damaged in the release."""
    streets.label(f"gtCoarse/train/{_stem('aachen')}_gtCoarse_labelIds.png", NUMBERS)
    for stem in (_stem("bayreuth"), cityscapes._DAMAGED):
        streets.image(f"leftImg8bit/train_extra/{stem}_leftImg8bit.png")
        streets.label(f"gtCoarse/train_extra/{stem}_gtCoarse_labelIds.png", NUMBERS)
    return streets


def _assert_coarse(dataset, labels):
    assert dataset.spec.splits == {
        **{"train": 1, "val": 1, "test": 1, "train_extra": 1},
        **{"trainval": 2, "trainval_extra": 3},
    }
    names = ["aachen_000000_000019", "munster_000000_000019", "bayreuth_000000_000019"]
    assert list(labels(dataset, "trainval_extra")) == names
    assert labels(dataset, "train_extra")[names[2]][0].tolist() == CLASSES


def test_coarse_labels_join_the_fine_ones(coarse, labels):
    coarse.pack("leftImg8bit_trainextra.zip", "leftImg8bit/train_extra")
    coarse.pack("gtCoarse.zip", "gtCoarse")
    coarse.pack("leftImg8bit_trainvaltest.zip", "leftImg8bit")
    coarse.pack("gtFine_trainvaltest.zip", "gtFine")
    _assert_coarse(coarse.prepare("cityscapes"), labels)


def test_coarse_labels_may_come_later(coarse, labels):
    later = coarse.raw_dir.parent / "gtCoarse"
    (coarse.raw_dir / "gtCoarse").rename(later)
    dataset = coarse.prepare("cityscapes")
    with pytest.raises(ValueError, match=r"no 'trainval_extra' split(.*\n)*.*gtCoarse\.zip"):
        dataset.source("trainval_extra")
    later.rename(coarse.raw_dir / "gtCoarse")
    _assert_coarse(coarse.prepare("cityscapes"), labels)


def test_extracted_extra_images_do_not_hide_the_archive_of_the_others(coarse, labels):
    extra, aside = coarse.raw_dir / "leftImg8bit/train_extra", coarse.raw_dir / "aside"
    extra.rename(aside)
    coarse.pack("leftImg8bit_trainvaltest.zip", "leftImg8bit")
    extra.parent.mkdir()
    aside.rename(extra)
    _assert_coarse(coarse.prepare("cityscapes"), labels)


@pytest.mark.parametrize("removed", [True, False])
def test_the_damaged_image_may_be_there_or_removed(coarse, labels, removed):
    image = f"leftImg8bit/train_extra/{cityscapes._DAMAGED}_leftImg8bit.png"
    if removed:
        (coarse.raw_dir / image).unlink()
    else:
        coarse.write(image, b"not a picture")
    _assert_coarse(coarse.prepare("cityscapes"), labels)


def test_an_image_without_label_is_named(streets):
    (streets.raw_dir / f"gtFine/val/{_stem('munster')}_gtFine_labelIds.png").unlink()
    with pytest.raises(ValueError, match=r"no label for .*munster_000000_000019_leftImg8bit\.png"):
        streets.prepare("cityscapes")


def test_train_ids_instead_of_label_ids_are_no_silent_mistake(streets):
    name = f"gtFine/train/{_stem('aachen')}_gtFine_labelIds.png"
    streets.label(name, np.full((6, 8), 40, np.uint8))
    with pytest.raises(ValueError, match=r"among 0\.\.33, 255; got 40"):
        streets.prepare("cityscapes")
