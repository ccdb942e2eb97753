"""Predicts photos and videos: overlays, class indices and probabilities, at their own sizes.

python scripts/predict.py --model=runs/shapes --images=photos --output=predictions
python scripts/predict.py --model=shapes_model --images='photos/**' --output=predictions

A run that was stopped resumes: the same command predicts what is missing or has changed.
"""

from __future__ import annotations

import collections
import errno
import functools
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import checkpoint_flag
import cli
import predict_model
import trained
from absl import flags
from PIL import Image
from predict_batches import Photo, ahead, batches, predicted, written
from predict_files import KINDS, write_page, write_prediction
from predict_record import Predicted, Record, check_output, opened
from predict_video import check_package, write_overlays

from deeplab_tf.data import photos
from deeplab_tf.pictures import visualization
from deeplab_tf.recipe.files import check_writable
from deeplab_tf.recipe.messages import shortened

_BATCH_ON_GPU = 8  # ours
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)

_MODEL = flags.DEFINE_string(
    "model",
    None,
    "a workdir, or what export.py wrote: a SavedModel, a .keras, .tflite or .onnx file, or the"
    " directory of one; refused if it has operations that may do more than predict",
)
flags.DEFINE_alias("saved_model", "model")  # its name when there was one format
_ALLOW_ANY_OP = flags.DEFINE_bool(
    "allow_any_op",
    False,
    "run an export with any operation of TensorFlow, which can read and write files",
)
_IMAGES = flags.DEFINE_multi_string(
    "images",
    None,
    "files, folders or patterns, separated by commas; may be given several times; '**' in a pattern"
    " stands for folders at any depth, which the predictions keep; a folder, or a pattern that"
    " ends in '**', leaves videos out",
)
_OUTPUT = flags.DEFINE_string("output", None, "directory for the predictions")
_WRITE = flags.DEFINE_list(
    "write",
    ["overlay", "index", "page"],
    f"of each image, any of {','.join(KINDS)}: a colored overlay, a PNG of class indices,"
    " probabilities in a compressed .npz (float16 [H, W, K], up to 2 K bytes per pixel: 8 MB for"
    " 500x375 pixels of 21 classes), and one page with all overlays; of a video, its overlay",
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size",
    None,
    f"most images of one size to predict at once; default: {_BATCH_ON_GPU} on a GPU, else 1",
    lower_bound=1,
)
_OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "remove the predictions of an earlier run, of whatever model"
)
_LESS_MEMORY = "Use smaller images, a lower --batch_size, or --predict.tile=1024."
cli.define_parts(predict_model.PARTS)


def main(argv: list[str]) -> None:
    """Predicts every image that it can; fails at the end if it could not predict some."""
    cli.no_arguments(argv)
    # An image above Pillow's limit is an error in a line of ours, without a warning before.
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    path, is_workdir = _model_path()
    cli.require(images=_IMAGES.value, output=_OUTPUT.value)
    kinds = _kinds()
    names, left_out = photos.search(_IMAGES.value)
    stems = photos.output_stems(names, _OUTPUT.value)
    if any(map(photos.is_video, names)):
        _check_video(kinds)
    check_writable(os.path.join(_OUTPUT.value, photos.RECORD))
    overwrite = _OVERWRITE.value
    check_output(stems, _OUTPUT.value, overwrite=overwrite)
    if left_out:
        print(_left_out_line(left_out))
    cli.import_tensorflow()
    model = _opened_model(path, kinds, is_workdir=is_workdir)
    with opened(_OUTPUT.value, model.made_by, names.values(), overwrite=overwrite) as record:
        record.check_names(names)
        found = [
            Photo(image, name, stems[image], record.complete(name, image, _files(image, kinds)))
            for image, name in names.items()
        ]
        legend = visualization.legend(model.spec.class_names, model.spec.palette)
        visualization.save_picture(os.path.join(_OUTPUT.value, photos.LEGEND), legend)
        failed = _predict_all(found, model, kinds, record)
        record.finish()
        if "page" in kinds and not all(map(photos.is_video, record.done)):
            print(f"wrote {write_page(_OUTPUT.value, record, model.spec)}")
    print(f"predictions of {len(found) - len(failed)} images are in {_OUTPUT.value}")
    if failed:
        raise ValueError(f"{len(failed)} of {len(found)} images failed: {shortened(failed)}")


def _model_path() -> tuple[str, bool]:
    """The model that predicts, and whether it is a workdir.

    Raises:
      FileNotFoundError: there is none.
      ValueError: there is not one of the flags that name it, it is not a model, or a flag does not
        fit it.
    """
    if (trained.WORKDIR.value is None) == (_MODEL.value is None):
        raise ValueError("give one of --model and --workdir, the model that predicts.")
    path = _MODEL.value if trained.WORKDIR.value is None else trained.workdir()
    cli.require(model=path)
    is_workdir = trained.WORKDIR.value is not None or predict_model.is_workdir(path)
    if is_workdir and _ALLOW_ANY_OP.value:
        raise ValueError("--allow_any_op is for exports alone; leave it out.")
    if not is_workdir and checkpoint_flag.CHECKPOINT.present:
        raise ValueError("--checkpoint is for workdirs alone; leave it out.")
    if not is_workdir:
        predict_model.check_no_options()
    return path, is_workdir


def _kinds() -> tuple[str, ...]:
    """What to write.

    Raises:
      ValueError: it is unknown, nothing, or a page without the overlays that it shows.
    """
    kinds = tuple(_WRITE.value)
    wrong = [kind for kind in kinds if kind not in KINDS]
    if wrong or not kinds:
        raise ValueError(f"--write must be some of {', '.join(KINDS)}; got {shortened(wrong)}.")
    if "page" in kinds and "overlay" not in kinds:
        raise ValueError("--write=page shows overlays; add overlay, or leave page out.")
    return kinds


def _files(path: str, kinds: tuple[str, ...]) -> set[str]:
    """What to write of an image or a video; the page is of all."""
    return {*kinds} & {*photos.endings_of(path)}


def _check_video(kinds: tuple[str, ...]) -> None:
    if "overlay" not in kinds:
        raise ValueError("a video is written as its overlay; add overlay to --write.")
    check_package()


def _left_out_line(paths: Sequence[str]) -> str:
    """How many files in folders are left out, by the endings of their names."""
    kinds = collections.Counter(os.path.splitext(path)[1].lower() or "others" for path in paths)
    listed = shortened(f"{photos.printable(kind)} {count}" for kind, count in kinds.most_common())
    return f"left out {len(paths)} file{'s' * (len(paths) > 1)} of other kinds: {listed}"


def _opened_model(path: str, kinds: tuple[str, ...], *, is_workdir: bool) -> predict_model.Model:
    """The model, ready to predict."""
    if is_workdir:
        return predict_model.of_workdir(path)
    model = predict_model.of_export(
        path, allow_any_op=_ALLOW_ANY_OP.value, probabilities="probabilities" in kinds
    )
    if model.notice:
        print(model.notice)
    return model


def _predict_all(
    found: list[Photo], model: predict_model.Model, kinds: tuple[str, ...], record: Record
) -> list[str]:
    """Predicts what is not done; the names of the images that failed."""
    from deeplab_tf.training.report.progress import Progress

    done, failed = sum(photo.done is not None for photo in found), []
    if done:
        print(f"{done} of {len(found)} images are predicted already")
    if done < len(found):
        print("predicting; the first image takes seconds longer")
    progress = Progress("predicting", len(found), start=done)
    for photo, result in _results(found, model, kinds):
        if isinstance(result, Predicted):
            record.add(result)
        else:
            name, line = photos.printable(photo.path), cli.error_line(result, _LESS_MEMORY)
            progress.close()
            # A bug, or a disk that takes nothing: the other images would fail too.
            if line is None or getattr(result, "errno", None) in _DISK_ERRORS:
                raise result
            what = line if line.startswith("cannot read ") else f"{name}: {line}"
            print(f"error: {what}", file=sys.stderr)
            failed.append(name)
        done += 1
        progress.update(done)
    return failed


def _results(
    found: list[Photo], model: predict_model.Model, kinds: tuple[str, ...]
) -> Iterator[tuple[Photo, Predicted | Exception]]:
    """Each image that is not done, with what is written of it or the error."""
    import tensorflow as tf

    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    batch_size = _BATCH_SIZE.value or (_BATCH_ON_GPU if on_gpu else 1)
    threads = min(4, os.cpu_count() or 1)  # ours
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(threads) as writers:
        pictures = (photo for photo in found if not photos.is_video(photo.path))
        read = ahead(batches(pictures, batch_size), reader)
        outputs = predicted(read, lambda images: model.predict(images, "probabilities" in kinds))
        write = functools.partial(write_prediction, kinds=kinds, spec=model.spec)
        yield from written(outputs, write, writers, 2 * threads)
    for video in found:
        if photos.is_video(video.path) and video.done is None:
            try:
                yield video, write_overlays(video, model, batch_size)
            except Exception as error:
                yield video, error


if __name__ == "__main__":
    cli.run(main, less_memory=_LESS_MEMORY)
