"""The record of a run: metrics.csv, event files, pictures, a curve.

workdir/metrics.csv          one row per report; no clock in it, so equal runs write equal files
workdir/training_curve.png   loss and scores against the step
workdir/pictures/            <name>-<step>.png
workdir/events/              the same for TensorBoard, which need not be installed; speed and memory
"""

from __future__ import annotations

import csv
import io
import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from deeplab_tf.pictures.chart import draw_curves
from deeplab_tf.pictures.visualization import encode_png
from deeplab_tf.recipe.files import write_bytes, write_text

_CSV = "metrics.csv"


class RunLog:
    """The record of one run in its workdir; opened again, it continues from `resume_step`.

    What was logged after `resume_step` is dropped: a run that resumes there logs it again, and
    the file becomes that of an uninterrupted run. So log a step before saving its checkpoint. A run
    that goes back to an earlier step closes its log and opens a new one there.
    """

    def __init__(self, workdir: str, resume_step: int = 0):
        """Opens the log.

        Args:
          workdir: of the run.
          resume_step: step of the checkpoint that the run resumes from; 0: it starts.

        Raises:
          ValueError: metrics.csv has other content.
          OSError: the workdir cannot be written.
        """
        self._workdir = workdir
        self._csv_path = os.path.join(workdir, _CSV)
        rows = [row for row in _read_rows(workdir) if int(row["step"]) <= resume_step]
        self._rows = rows if resume_step else []
        self._columns = _columns(self._rows)
        self._write_all()
        self._events = _EventFile(os.path.join(workdir, "events"), resume_step)

    def scalars(
        self,
        step: int,
        values: Mapping[str, float],
        *,
        events_only: Mapping[str, float] | None = None,
    ) -> None:
        """Appends a row; a name that is new becomes a column, and is the tag in the event file.

        Args:
          step: the step.
          values: name -> value. One that is not finite is written as nan, inf or -inf.
          events_only: further values for the event file: those that differ between equal runs.

        Raises:
          OSError: it cannot be written.
        """
        row = {"step": str(step)}
        # Nine digits tell any two float32 apart.
        row.update({name: f"{float(value):.9g}" for name, value in values.items()})
        self._rows.append(row)
        if set(row) <= set(self._columns):
            with open(self._csv_path, "a", newline="", encoding="utf-8") as file:
                file.write(_csv([row], self._columns, header=False))
                file.flush()
                os.fsync(file.fileno())  # a checkpoint that follows must find it
        else:
            self._columns = _columns(self._rows)
            self._write_all()
        self._events.scalars(step, {**values, **(events_only or {})})

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """Writes uint8 [H, W, 3] RGB to pictures/<name>-<step>.png and the event file.

        Raises:
          OSError: it cannot be written.
        """
        png = encode_png(picture)
        write_bytes(os.path.join(self._workdir, "pictures", f"{name}-{step}.png"), png)
        self._events.picture(step, name, png, picture.shape[:2])

    def curve(self, titles: Mapping[str, str]) -> None:
        """Draws training_curve.png: some columns, one chart below the other, by step.

        Args:
          titles: column -> title of its chart, from top to bottom. A column without values has no
            chart.

        Raises:
          OSError: it cannot be written.
        """
        panels = [
            (title, points)
            for column, title in titles.items()
            if (points := [(int(r["step"]), float(r[column])) for r in self._rows if r.get(column)])
        ]
        path = os.path.join(self._workdir, "training_curve.png")
        write_bytes(path, encode_png(draw_curves(panels)))

    @property
    def first_loss(self) -> float | None:
        """The loss in the first row that has one; None: there is no such row yet."""
        return next((float(row["loss"]) for row in self._rows if "loss" in row), None)

    def close(self) -> None:
        """Closes the event file; metrics.csv is complete after every row."""
        self._events.close()

    def _write_all(self) -> None:
        write_text(self._csv_path, _csv(self._rows, self._columns, header=True))


def has_rows(workdir: str) -> bool:
    """Whether a run has logged anything in the workdir.

    Raises:
      ValueError: metrics.csv has other content.
    """
    return bool(_read_rows(workdir))


def has_scores(workdir: str, step: int) -> bool:
    """Whether an evaluation at this step is logged in the workdir.

    Raises:
      ValueError: metrics.csv has other content.
    """
    return any(row["step"] == str(step) and "loss" not in row for row in _read_rows(workdir))


def _read_rows(workdir: str) -> list[dict[str, str]]:
    """The rows of a metrics.csv, none if there is no file; empty cells are left out."""
    path = os.path.join(workdir, _CSV)
    if not os.path.exists(path):
        return []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            # A run that was killed may have left part of a row.
            lines = [line for line in file if line.endswith("\n")]
        rows = list(csv.DictReader(lines))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a table: {error}; repair or remove the file.") from error
    for number, row in enumerate(rows, start=2):
        if not (row.get("step") or "").isdecimal() or not all(map(_is_cell, row.values())):
            raise ValueError(
                f"{path} line {number} is not a row of step and numbers: {lines[number - 1]!r};"
                " repair or remove the file."
            )
    return [{name: cell for name, cell in row.items() if cell} for row in rows]


def _is_cell(cell: str | list[str] | None) -> bool:
    """Whether a cell holds a number or nothing; a list has the cells of a row that is too long."""
    try:
        float(cell or 0)
    except (TypeError, ValueError):
        return False
    return True


def _columns(rows: Iterable[Mapping[str, str]]) -> list[str]:
    """Names in the order in which they first occur."""
    return list(dict.fromkeys(["step", *(name for row in rows for name in row)]))


def _csv(rows: Iterable[Mapping[str, str]], columns: Sequence[str], *, header: bool) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


class _EventFile:
    """TensorBoard's format, Event records. tf.summary needs TensorBoard to be installed."""

    def __init__(self, directory: str, resume_step: int):
        os.makedirs(directory, exist_ok=True)
        now = time.time()
        name = f"events.out.tfevents.{now:.6f}.{socket.gethostname()}.{os.getpid()}"
        self._writer = tf.io.TFRecordWriter(os.path.join(directory, name))
        self._write(tf.compat.v1.Event(file_version="brain.Event:2"))
        # Tells TensorBoard to forget what earlier files say of the steps from here on.
        start = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
        first = resume_step + 1 if resume_step else 0
        self._write(tf.compat.v1.Event(step=first, session_log=start))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        value = tf.compat.v1.Summary.Value
        self._summary(step, [value(tag=k, simple_value=float(v)) for k, v in values.items()])

    def picture(self, step: int, name: str, png: bytes, size: tuple[int, int]) -> None:
        image = tf.compat.v1.Summary.Image(
            height=size[0], width=size[1], colorspace=3, encoded_image_string=png
        )
        self._summary(step, [tf.compat.v1.Summary.Value(tag=name, image=image)])

    def close(self) -> None:
        self._writer.close()

    def _summary(self, step: int, values: Sequence[tf.compat.v1.Summary.Value]) -> None:
        summary = tf.compat.v1.Summary(value=values)
        self._write(tf.compat.v1.Event(step=step, summary=summary))
        self._writer.flush()

    def _write(self, event: tf.compat.v1.Event) -> None:
        event.wall_time = time.time()
        self._writer.write(event.SerializeToString())
