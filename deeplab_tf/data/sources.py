"""Splits that are made of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from deeplab_tf.recipe.dataset_spec import ExampleSource


class JoinedSource:
    """Several sources, one after another, as an ExampleSource."""

    def __init__(self, sources: Sequence[ExampleSource]):
        """Reads nothing; `sources` are one or more."""
        self._sources = list(sources)
        self._ends = np.cumsum([len(source) for source in sources])

    def __len__(self) -> int:
        """Number of examples of all."""
        return int(self._ends[-1])

    def read(self, index: tf.Tensor) -> dict[str, tf.Tensor]:
        """See ExampleSource.read."""
        index = tf.cast(index, tf.int64)
        which = tf.searchsorted(self._ends, index[None], side="right")[0]
        starts = [0, *self._ends[:-1].tolist()]
        branches = [
            lambda source=source, start=start: source.read(index - start)
            for source, start in zip(self._sources, starts, strict=True)
        ]
        return tf.switch_case(which, branches)

    def name(self, index: int) -> str:
        """See ExampleSource.name."""
        which = int(np.searchsorted(self._ends, index, side="right"))
        start = int(self._ends[which - 1]) if which else 0
        return self._sources[which].name(index - start)


class RelabeledSource:
    """A source with other numbers for its classes, as an ExampleSource."""

    def __init__(self, source: ExampleSource, classes: Mapping[int, int]):
        """Reads nothing.

        Args:
          source: whose labels are in 0..255.
          classes: label value -> new value; all others become -1, which is no class.
        """
        table = np.full(256, -1, np.int32)
        table[list(classes)] = list(classes.values())
        self._source, self._table = source, table

    def __len__(self) -> int:
        """Number of examples."""
        return len(self._source)

    def read(self, index: tf.Tensor) -> dict[str, tf.Tensor]:
        """See ExampleSource.read."""
        example = self._source.read(index)
        return {**example, "label": tf.gather(self._table, example["label"])}

    def name(self, index: int) -> str:
        """See ExampleSource.name."""
        return self._source.name(index)
