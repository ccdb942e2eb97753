"""The files of a prediction, and the page that shows all of them."""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Mapping

import numpy as np
from predict_batches import Photo
from predict_record import Predicted, Record

from deeplab_tf.data import photos
from deeplab_tf.pages.predictions import PredictedImage, predictions_page
from deeplab_tf.pictures import visualization
from deeplab_tf.recipe.dataset_spec import DatasetSpec
from deeplab_tf.recipe.files import write_bytes, write_text

KINDS = (*photos.ENDINGS, "page")


def write_prediction(
    photo: Photo, outputs: Mapping[str, np.ndarray], kinds: Collection[str], spec: DatasetSpec
) -> Predicted:
    """Writes the files of an image, each whole or not at all.

    Args:
      photo: the image.
      outputs: "label_map", int [H, W], and "probabilities", float [H, W, K], where they are wanted.
      kinds: of files.
      spec: the classes and their colors.

    Returns:
      The entry of the record.

    Raises:
      OSError: a file cannot be written.
    """
    label_map = outputs["label_map"]
    write = {
        "probabilities": lambda path: _save_probabilities(path, outputs["probabilities"], spec),
        "overlay": lambda path: visualization.save_picture(
            path, visualization.overlay(photo.image, label_map, spec.palette)
        ),
        "index": lambda path: visualization.save_label_map(path, label_map, spec.palette),
    }
    written = tuple(kind for kind in write if kind in kinds)
    for kind in written:
        write[kind](f"{photo.stem}{photos.ENDINGS[kind]}")
    height, width = label_map.shape
    return Predicted(
        name=photo.name,
        source=os.path.abspath(photo.path),
        state=photo.state,
        height=height,
        width=width,
        written=written,
        shares=shares(np.bincount(label_map.ravel(), minlength=spec.num_classes), spec),
    )


def shares(pixels: np.ndarray, spec: DatasetSpec) -> dict[str, float]:
    """Class name -> share of the pixels, from int [K]; of the classes that occur."""
    return {spec.class_names[i]: float(pixels[i] / pixels.sum()) for i in np.flatnonzero(pixels)}


def _save_probabilities(path: str, probabilities: np.ndarray, spec: DatasetSpec) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, probabilities=probabilities.astype(np.float16), class_names=spec.class_names
    )
    write_bytes(path, buffer.getvalue())


def write_page(directory: str, record: Record, spec: DatasetSpec) -> str:
    """Writes the page with every overlay of a directory; returns its path.

    Raises:
      OSError: it cannot be written.
    """
    items = []
    for name, entry in sorted(record.done.items()):
        files = entry.files()
        if "overlay" in files and not photos.is_video(name):
            items.append(
                PredictedImage(
                    name=photos.printable(name),
                    overlay_href=files["overlay"],
                    label_map_href=files.get("index"),
                    shares=entry.shares,
                )
            )
    path = os.path.join(directory, photos.PAGE)
    by = os.path.basename(os.path.abspath(record.made_by["model"]))
    write_text(path, predictions_page(f"Predictions by {by}", items, spec))
    return path
