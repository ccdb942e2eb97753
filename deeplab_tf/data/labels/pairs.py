"""Finding the files of images and labels, and pairing them by their names."""

from __future__ import annotations

import collections
import os
from collections.abc import Collection, Iterable, Iterator, Mapping

from deeplab_tf.data.picture_files import check_file
from deeplab_tf.recipe.messages import shortened

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")
LABEL_ENDINGS = (".png",)
_NEXT_LINE = "\n  "
_MOST = 0.5  # ours: share of the labels for which a pattern holds that is worth naming

Pair = tuple[str, str]  # paths of image and label


def find_files(directory: str, endings: tuple[str, ...]) -> dict[str, str]:
    """Finds the files in a directory and in the folders below it; hidden ones are left out.

    Args:
      directory: to search.
      endings: of the files, in lower case.

    Returns:
      Path below the directory, without its ending -> whole path.

    Raises:
      FileNotFoundError: there is no such directory, or no such file in it.
      ValueError: two files differ in the ending alone, a name is not UTF-8, a file is a pipe, a
        device or a link to nothing, or a link leads to a folder that contains it.
    """
    if not os.path.isdir(directory):
        raise FileNotFoundError(f"there is no directory {directory}.")
    found: dict[str, str] = {}
    odd = []
    for entry in _entries(directory):
        stem, ending = os.path.splitext(os.path.relpath(entry.path, directory))
        if ending.lower() not in endings:
            continue
        if not _is_unicode(entry.path):
            raise ValueError(f"the name of {entry.path!r} is not UTF-8; rename the file.")
        if not entry.is_file():  # reading a pipe or a device may never end
            odd.append(f"{entry.path}: {_why_odd(entry.path)}")
        elif stem in found:
            raise ValueError(
                f"{found[stem]} and {entry.path} differ only in the ending; remove one of them."
            )
        else:
            found[stem] = entry.path
    if odd:
        raise ValueError(
            f"{directory} must have regular files or links to them; remove these:"
            f"\n  {shortened(odd, separator=_NEXT_LINE)}"
        )
    if not found:
        raise FileNotFoundError(f"{directory} has no file that ends in {', '.join(endings)}.")
    return found


def _entries(directory: str) -> Iterator[os.DirEntry]:
    """Everything that is not a folder, in the order of its name."""
    with os.scandir(directory) as entries:
        visible = sorted(
            # Notebooks and viewers keep copies of pictures in hidden folders.
            (entry for entry in entries if not entry.name.startswith(".")),
            key=lambda entry: entry.name,
        )
    for entry in visible:
        if entry.is_dir():
            _check_no_loop(entry.path)
            yield from _entries(entry.path)
        else:
            yield entry


def _check_no_loop(folder: str) -> None:
    inside = os.path.realpath(os.path.dirname(folder))
    if os.path.islink(folder) and f"{inside}/".startswith(f"{os.path.realpath(folder)}/"):
        raise ValueError(f"{folder} is a link to a folder that contains it; remove the link.")


def _is_unicode(path: str) -> bool:
    # Bytes that cannot be decoded are lone surrogates in the string.
    return not any("\ud800" <= character <= "\udfff" for character in path)


def _why_odd(path: str) -> str:
    try:
        check_file(path)
    except (OSError, ValueError) as error:
        return error.strerror if isinstance(error, OSError) else str(error)
    return "it was not a regular file a moment ago"


def find_pairs(images_dir: str, labels_dir: str, label_suffix: str = "") -> dict[str, Pair]:
    """Pairs images and labels by their paths below the two folders, without endings.

    Args:
      images_dir: with JPEG or PNG images.
      labels_dir: with PNG labels.
      label_suffix: what the name of a label has after that of its image; files without it are not
        labels.

    Returns:
      Path of the image below its folder, without its ending -> (image, label), sorted.

    Raises:
      FileNotFoundError: a folder does not exist, or has no such file.
      ValueError: both folders are the same, or an image or a label lacks its counterpart.
    """
    if os.path.realpath(images_dir) == os.path.realpath(labels_dir):
        raise ValueError(f"images and labels must be in different folders; both are {images_dir}.")
    images = find_files(images_dir, IMAGE_ENDINGS)
    try:
        labels = find_files(labels_dir, LABEL_ENDINGS)
    except FileNotFoundError as error:
        if not os.path.isdir(labels_dir):
            raise
        raise FileNotFoundError(f"{error}{_instead(images.values(), labels_dir)}") from error
    if label_suffix:
        labels = {
            stem.removesuffix(label_suffix): path
            for stem, path in labels.items()
            if stem.endswith(label_suffix)
        }
        if not labels:
            raise FileNotFoundError(
                f"{labels_dir} has no file that ends in {label_suffix}.png, as"
                " --dataset.label_suffix says."
            )
    alone = [f"no label for {images[s]}" for s in sorted(images.keys() - labels.keys())]
    alone += [f"no image for {labels[s]}" for s in sorted(labels.keys() - images.keys())]
    if alone:
        why = _pattern(images, labels) + _instead(images.values(), labels_dir)
        listed = shortened(alone, separator=_NEXT_LINE, most=3 if why else 20)  # ours
        raise ValueError(
            f"each image ({', '.join(IMAGE_ENDINGS)}) in {images_dir} must have a label in"
            f" {labels_dir} with the same name and the ending {label_suffix}.png, and each label"
            f" an image:{why}\n  {listed}"
        )
    return {stem: (images[stem], labels[stem]) for stem in sorted(images)}


def _instead(images: Iterable[str], labels_dir: str) -> str:
    """What the folder of labels has instead of PNG files, as a message; empty if nothing."""
    endings = collections.Counter(
        os.path.splitext(entry.name)[1].lower() for entry in _entries(labels_dir)
    )
    pngs = sum(endings.pop(ending, 0) for ending in LABEL_ENDINGS)
    if not endings:
        return ""
    ending, number = endings.most_common(1)[0]
    text = f"\n  {labels_dir} has {number} files that end in {ending or 'no ending'}: "
    if ending not in (".jpg", ".jpeg"):
        return f"{text}labels must be PNG pictures."
    if not pngs and all(path.lower().endswith(LABEL_ENDINGS) for path in images):
        return (
            f"{text}photos, while the images are PNG: are --dataset.images_dir and"
            " --dataset.labels_dir swapped?"
        )
    return (
        f"{text}JPEG changes values along borders, so labels must be PNG. Save them as PNG where"
        " they were drawn; converting the JPEG files does not bring the values back."
    )


def _pattern(images: Mapping[str, str], labels: Mapping[str, str]) -> str:
    """How the names of most labels follow from those of the images; empty if they do not."""
    alone = labels.keys() - images.keys()
    enough = _MOST * min(len(images), len(labels))
    for end in dict.fromkeys(["", _common_end(images)]):
        roots = {stem.removesuffix(end) for stem in images}
        number, added = _most_frequent(
            name[cut:]
            for folder, name in map(os.path.split, alone)
            for cut in range(1, len(name))
            if os.path.join(folder, name[:cut]) in roots
        )
        if number >= enough:
            named = f"\n  {number} of {len(labels)} labels are called <image>{added}.png"
            if not end:
                return f"{named}: --dataset.label_suffix={added}"
            return f"{named}, where images are called <image>{end}: rename them to agree."
    number, added = _most_frequent(
        name[:cut]
        for folder, name in map(os.path.split, alone)
        for cut in range(1, len(name))
        if os.path.join(folder, name[cut:]) in images
    )
    if number >= enough:
        return (
            f"\n  {number} of {len(labels)} labels are called {added}<image>.png:"
            " rename them to <image>.png."
        )
    lower = {stem.lower() for stem in images}
    if sum(stem.lower() in lower for stem in alone) >= enough:
        return "\n  most names agree but for upper and lower case: rename the files."
    return ""


def _most_frequent(parts: Iterable[str]) -> tuple[int, str]:
    found = collections.Counter(parts).most_common(1)
    return (found[0][1], found[0][0]) if found else (0, "")


def _common_end(stems: Collection[str]) -> str:
    """What all names end in, from a separator on, such as _leftImg8bit; often empty."""
    if len(stems) < 2:
        return ""
    end = os.path.commonprefix([os.path.basename(stem)[::-1] for stem in stems])[::-1]
    return end[next((i for i, c in enumerate(end) if c in "_-. "), len(end)) :]
