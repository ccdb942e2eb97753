"""Images in batches of one size, read ahead, and written while the next ones are predicted."""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

import numpy as np
from predict_record import FileState, Predicted, state_of

from deeplab_tf.data.photos import read_photo

T = TypeVar("T")

_MOST_PIXELS = 2**22  # ours: of a batch, 15 images of 513x513; larger images fill a GPU alone
_UNREADABLE = (ValueError, OSError, MemoryError)  # what `Photo.read` raises
_WAITING = 4  # ours: batches' worth of images that wait for others of their size


@dataclasses.dataclass(frozen=True)
class Photo:
    """An image to predict.

    Attributes:
      path: of the file.
      name: of `photos.named_photos`.
      stem: of `photos.output_stems`.
      done: what is known of it, if its predictions are complete.
      state: of the file, from before it was read.
      image: uint8 [H, W, 3], when it has been read.
    """

    path: str
    name: str
    stem: str
    done: Predicted | None = None
    state: FileState | None = None
    image: np.ndarray | None = None

    def read(self) -> Photo:
        """The same with its image.

        Raises:
          ValueError: it cannot be read.
          OSError: it was removed meanwhile.
        """
        # Of a link to nothing there is no state; read_photo says so.
        state = state_of(self.path) if os.path.exists(self.path) else None
        return dataclasses.replace(self, state=state, image=read_photo(self.path))


Failed = tuple[Photo, Exception]


def batches(photos: Iterable[Photo], batch_size: int) -> Iterator[list[Photo] | Failed]:
    """Reads images and puts those of one size together, in about their order.

    Images that are done keep their places: a run that resumes predicts the others in the same
    batches as a run without a break. They are read only for a batch that is not done.

    Args:
      photos: the images.
      batch_size: most images of a batch.

    Yields:
      A batch of images that have been read; or one that cannot be read, and the error.
    """
    waiting: dict[tuple[int, ...], list[Photo]] = {}
    for photo in photos:
        if photo.done is None:
            try:
                photo = photo.read()
            except _UNREADABLE as error:
                yield photo, error
                continue
            size = photo.image.shape[:2]
        else:
            size = (photo.done.height, photo.done.width)
        waiting.setdefault(size, []).append(photo)
        if len(waiting[size]) >= limited(batch_size, *size):
            yield from _complete(waiting.pop(size))
        elif sum(map(len, waiting.values())) > _WAITING * batch_size:
            yield from _complete(waiting.pop(next(iter(waiting))))  # which has waited longest
    for batch in waiting.values():
        yield from _complete(batch)


def limited(batch_size: int, height: int, width: int) -> int:
    """The most images of this size, in pixels, that are predicted at once."""
    return min(batch_size, max(1, _MOST_PIXELS // (height * width)))


def _complete(batch: list[Photo]) -> Iterator[list[Photo]]:
    """The batch with its images read; nothing if all are done."""
    if all(photo.done for photo in batch):
        return
    images = []
    for photo in batch:
        if photo.image is None:
            try:
                photo = photo.read()
            except _UNREADABLE:
                continue  # it is done, and only fills a place
        images.append(photo)
    yield images


def ahead(items: Iterator[T], executor: Executor) -> Iterator[T]:
    """The same items, each made in a thread while the one before is used."""
    upcoming = executor.submit(next, items, None)
    while (item := upcoming.result()) is not None:
        upcoming = executor.submit(next, items, None)
        yield item


def predicted(
    found: Iterable[list[Photo] | Failed],
    predict: Callable[[np.ndarray], dict[str, np.ndarray]],
) -> Iterator[tuple[Photo, dict[str, np.ndarray] | Exception]]:
    """The outputs for each image that is not done.

    Args:
      found: of `batches`.
      predict: uint8 [N, H, W, 3] -> name: [N, H, W, ...].

    Yields:
      The image and name: [H, W, ...], or the error.
    """
    for batch in found:
        if isinstance(batch, tuple):
            yield batch
            continue
        try:
            outputs = predict(np.stack([photo.image for photo in batch]))
        except Exception as error:
            if len(batch) > 1:  # as when memory runs out; alone, an image may do
                yield from predicted([[photo] for photo in batch if not photo.done], predict)
            else:
                yield batch[0], error
            continue
        for i, photo in enumerate(batch):
            if photo.done is None:
                yield photo, {name: values[i] for name, values in outputs.items()}


def written(
    found: Iterable[tuple[Photo, dict[str, np.ndarray] | Exception]],
    write: Callable[[Photo, dict[str, np.ndarray]], Predicted],
    executor: Executor,
    most: int,
) -> Iterator[tuple[Photo, Predicted | Exception]]:
    """Writes predictions in threads.

    Args:
      found: of `predicted`.
      write: writes the files of an image.
      executor: of the threads.
      most: images that wait at once, for their memory.

    Yields:
      The image, in the order of `found`, and its entry of the record, or the error.
    """
    pending: collections.deque[tuple[Photo, Future]] = collections.deque()

    def finished(fewer_than: int):
        while pending and (len(pending) >= fewer_than or pending[0][1].done()):
            photo, future = pending.popleft()
            yield photo, future.exception() or future.result()

    for photo, outputs in found:
        if isinstance(outputs, Exception):
            future = Future()
            future.set_exception(outputs)
        else:
            future = executor.submit(write, photo, outputs)
        pending.append((photo, future))
        yield from finished(most)
    yield from finished(0)
