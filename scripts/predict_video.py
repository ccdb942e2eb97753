"""Overlays of a video, frame by frame; PyAV reads and writes it."""

from __future__ import annotations

import importlib
import itertools
import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import numpy as np
from predict_batches import Photo, ahead, limited
from predict_files import shares
from predict_model import Model
from predict_record import Predicted, state_of

from deeplab_tf.data.photos import VIDEO_ENDINGS, check_link, printable
from deeplab_tf.pictures import visualization
from deeplab_tf.recipe.files import sync

# FFmpeg's names of what the extensions of `is_video` stand for. Others, such as playlists, name
# further files and addresses, which a video from elsewhere must not have FFmpeg open.
_FORMATS = "avi,m4v,matroska,mov,mp4,mpeg,mpegts,mpegvideo,webm"

_LEAST_LENGTH = 0.95  # ours: of the stated length; headers round, and last frames may lack
_FEW_FRAMES = 3  # ours: frames that may lack in a video of any length
# cited: ITU-T H.273 (Tab. 2 to 4: 1 is BT.709, 2 is unspecified), AVColorRange of FFmpeg (1 is
# 16..235).
_COLORS = {"colorspace": 1, "color_primaries": 1, "color_trc": 1, "color_range": 1}
_NO_COLORSPACE = 2
# ours, as players do: large frames that do not name their colors have those of BT.709, not BT.601.
_HD_WIDTH, _SD_HEIGHT = 1280, 576


def check_package() -> Any:
    """PyAV.

    Raises:
      ValueError: it is not installed.
    """
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise ValueError("videos need the package av. Run pip install -e '.[video]'.") from error


def write_overlays(video: Photo, model: Model, batch_size: int) -> Predicted:
    """Writes a video of overlays with the frames' times and size, whole or not at all.

    Sound is left out.

    Args:
      video: the file, not read.
      model: predicts the frames.
      batch_size: most frames that are predicted at once.

    Returns:
      The entry of the record, whose shares are those of all frames' pixels.

    Raises:
      ValueError: the file cannot be read as a video.
      OSError: the overlays cannot be written.
    """
    av = check_package()
    check_link(video.path)
    state, target = state_of(video.path), f"{video.stem}{VIDEO_ENDINGS['overlay']}"
    temporary = f"{target}.{os.getpid()}.tmp"
    os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
    try:
        with _reading(av, video.path) as source:
            height, width, pixels = _write(av, video.path, source, temporary, model, batch_size)
        sync(temporary)
        os.replace(temporary, target)
        sync(os.path.dirname(target) or ".")
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)
    return Predicted(
        name=video.name,
        source=os.path.abspath(video.path),
        state=state,
        height=height,
        width=width,
        written=("overlay",),
        shares=shares(pixels, model.spec),
    )


def _write(
    av: Any, path: str, source: Any, target: str, model: Model, batch_size: int
) -> tuple[int, int, np.ndarray]:
    """Writes the overlays; height and width, and the pixels of each class, int [K]."""
    from deeplab_tf.training.report.progress import Progress

    shown = source.streams.video[0]
    frames = _frames(av, path, source)
    first = next(frames)  # before anything is written
    height, width = first[-1].shape[:2]
    pixels, done = np.zeros(model.spec.num_classes, np.int64), 0
    total = _length(shown)
    progress = Progress(f"frames of {printable(os.path.basename(path))}", max(total, 1))
    with av.open(target, "w", format="mp4") as output, ThreadPoolExecutor(1) as reader:
        stream = _stream(output, shown, height, width)
        groups = _groups(itertools.chain([first], frames), limited(batch_size, height, width))
        for group in ahead(groups, reader):
            images = np.stack([image for *_, image in group])
            label_maps = model.predict(images, False)["label_map"]
            pixels += np.bincount(label_maps.ravel(), minlength=len(pixels))
            for (time, _, image), label_map in zip(group, label_maps, strict=True):
                painted = visualization.overlay(image, label_map, model.spec.palette)
                frame = av.VideoFrame.from_ndarray(painted, format="rgb24").reformat(
                    format=stream.pix_fmt, dst_colorspace="ITU709", dst_color_range="MPEG"
                )
                frame.pts, frame.time_base = time, shown.time_base
                output.mux(stream.encode(frame))
            done += len(group)
            if done < total:
                progress.update(done)
        output.mux(stream.encode(None))  # what the encoder has kept
    progress.close()
    _check_length(path, source, done, end=group[-1][1])
    return height, width, pixels


def _reading(av: Any, path: str) -> Any:
    """The open video."""
    if not os.path.isfile(path):  # opening a pipe would wait for a writer
        raise ValueError(f"cannot read {printable(path)}: it is not a regular file")
    try:
        source = av.open(path, options={"format_whitelist": _FORMATS})
    except (av.FFmpegError, OSError, ValueError) as error:
        raise ValueError(f"cannot read {printable(path)}: not a readable video") from error
    if not source.streams.video:
        source.close()
        raise ValueError(f"cannot read {printable(path)}: it has no pictures")
    return source


def _check_length(path: str, source: Any, count: int, end: int) -> None:
    """Checks that the frames reach the end that the header states.

    Args:
      path: of the video.
      source: the open video.
      count: of the frames.
      end: of the last one, in the stream's units.

    Raises:
      ValueError: they end before.
    """
    shown = source.streams.video[0]
    stated, is_sure = _stated_seconds(source)
    seconds, rate = float(end * shown.time_base), float(shown.average_rate or 25)
    if seconds >= min(_LEAST_LENGTH * stated, stated - _FEW_FRAMES / rate):
        return
    what = f"after {count} frames: it ends at {seconds:.2f} of {stated:.2f} seconds"
    if is_sure:
        raise ValueError(
            f"cannot read {printable(path)}: {what}. It may be cut off: copy it again, or repair it"
            " with FFmpeg."
        )
    print(f"warning: {printable(path)}: {what}; it may be cut off.", file=sys.stderr)


def _stated_seconds(source: Any) -> tuple[float, bool]:
    """The length that the header states, 0 if none, and whether it is that of the pictures."""
    shown = source.streams.video[0]
    kinds = source.format.name.split(",")
    if "avi" in kinds:  # whose duration FFmpeg can take from the file's size
        return float(shown.frames / (shown.average_rate or 25)), True
    if "mov" in kinds:
        return float((shown.duration or 0) * shown.time_base), True
    if "matroska" in kinds:
        tag = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", shown.metadata.get("DURATION", ""))
        if tag:
            return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3]), True
        return (source.duration or 0) / 1e6, False  # microseconds; sound can be longer
    return 0, False


def _frames(av: Any, path: str, source: Any) -> Iterator[tuple[int, int, np.ndarray]]:
    """Time and end, in the stream's units, and pixels uint8 [H, W, 3] of each frame, as shown.

    Times count from the first frame, ends from the start of the file.
    """
    size, start, time, count = None, None, -1, 0
    try:
        for frame in source.decode(video=0):
            image = _rgb(frame)
            image = np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))
            if image.shape != (size := size or image.shape):
                raise ValueError(f"the size of its frames changes from {size} to {image.shape}")
            start = frame.pts if start is None else start
            # Times must ascend. Those of H.264 in AVI are in the order of decoding.
            time = max(frame.pts - start, time + 1)
            yield time, time + max(start, 0) + (frame.duration or 0), image
            count += 1
    except (av.FFmpegError, ValueError, TypeError) as error:
        what = " ".join(str(error)[:200].split())
        raise ValueError(f"cannot read {printable(path)}: after {count} frames: {what}") from error
    if not count:
        raise ValueError(f"cannot read {printable(path)}: it has no frames")


def _rgb(frame: Any) -> np.ndarray:
    """The pixels of a frame, uint8 [H, W, 3]."""
    is_hd = frame.width >= _HD_WIDTH or frame.height > _SD_HEIGHT
    if frame.colorspace == _NO_COLORSPACE and is_hd:
        frame = frame.reformat(format="rgb24", src_colorspace="ITU709")
    return frame.to_ndarray(format="rgb24")


def _groups(frames: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while group := list(itertools.islice(frames, size)):
        yield group


def _stream(output: Any, shown: Any, height: int, width: int) -> Any:
    """The stream of the overlays: H.264, which all browsers play."""
    rate = shown.average_rate or shown.guessed_rate or Fraction(25)
    stream = output.add_stream("libx264", rate=rate)
    stream.height, stream.width = height, width
    # yuv420p, which every player knows, has one color for 2x2 pixels.
    stream.pix_fmt = "yuv420p" if height % 2 == width % 2 == 0 else "yuv444p"
    stream.codec_context.time_base = shown.time_base
    # Without them, players take the colors of small videos to be of another standard.
    for name, value in _COLORS.items():
        setattr(stream.codec_context, name, value)
    return stream


def _length(stream: Any) -> int:
    """The number of frames, from what the file says; 0: it does not."""
    if stream.frames:
        return stream.frames
    if stream.duration and stream.average_rate:
        return round(stream.duration * stream.time_base * stream.average_rate)
    return 0
