"""Official releases: what they consist of, and how they are prepared once and then opened."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deeplab_tf.data.release.archives import Archive, Progress, ReleaseFiles
from deeplab_tf.data.release.examples import IGNORE_LABEL, ReleasedExample, encode, is_kept
from deeplab_tf.data.release.server_files import ServerFormat
from deeplab_tf.data.sources import JoinedSource, RecordSource, RelabeledSource
from deeplab_tf.recipe.dataset_spec import Color, DatasetSpec, OpenDataset
from deeplab_tf.recipe.messages import shortened

if TYPE_CHECKING:
    from deeplab_tf.data.records import RecordBuilder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """Splits that come from the same archives and are prepared together."""

    name: str
    splits: Mapping[str, int]  # split -> examples that the release has
    needs: tuple[tuple[Archive, ...], ...]  # one archive of each row
    list_examples: Callable[[ReleaseFiles, str], Sequence[ReleasedExample]]  # of a split
    # split some of whose examples are left out -> who says how many are kept
    expected_kept: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def missing(self, files: ReleaseFiles) -> list[str]:
        """The rows of `needs` of which no archive is there, one line each."""
        return [" or ".join(map(str, row)) for row in self.needs if not any(map(files.find, row))]

    def needed(self) -> str:
        """`needs` as lines."""
        return "\n".join("  " + " or ".join(map(str, row)) for row in self.needs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReleasedDataset:
    """A dataset that is prepared from the files of an official release."""

    name: str
    class_names: tuple[str, ...]
    palette: tuple[Color, ...]
    parts: tuple[Part, ...]  # the first one is required, the others are optional
    # split -> the stored splits that it joins
    joined: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    # For another reading of a stored dataset: that one's name, and its classes -> classes here
    stored_as: str | None = None
    relabel: Mapping[int, int] | None = None
    server: ServerFormat | None = None  # what its test server wants; None: there is no server

    def prepare(
        self,
        raw_dir: str,
        data_dir: str | None,
        *,
        allow_subset: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Prepares all parts that are in `raw_dir` and are not prepared yet.

        A part appears in `data_dir` when it is complete; an interrupted one starts over.

        Args:
          raw_dir: directory with the archives or their contents.
          data_dir: where prepared datasets are; None: TFDS' default place.
          allow_subset: accept fewer examples than the release has.
          progress: called with what is in progress, how much is done and how much there is.

        Raises:
          FileNotFoundError: files are missing.
          ValueError: files are damaged, or the number of examples is not that of the release.
          OSError: files cannot be written, e.g. the disk is full.
        """
        files = ReleaseFiles(raw_dir, progress)
        for part in self.parts:
            builder = self._builder(part, data_dir)
            if os.path.isdir(builder.data_dir):
                _check_complete(builder.write(), allow_subset)
                continue
            missing = part.missing(files)
            if not missing:
                self._prepare_part(part, files, data_dir, allow_subset, progress)
            elif part is self.parts[0]:
                raise FileNotFoundError(
                    f"{raw_dir} lacks files of {self.name}; download them to it:\n  "
                    + "\n  ".join(missing)
                )

    def _prepare_part(
        self,
        part: Part,
        files: ReleaseFiles,
        data_dir: str | None,
        allow_subset: bool,
        progress: Progress | None,
    ) -> None:
        examples = {split: part.list_examples(files, split) for split in part.splits}
        for split, listed in examples.items():
            self._check_number(split, len(listed), part.splits[split], allow_subset, files.raw_dir)
            paths = [path for e in listed for path in (e.image, e.label) if path is not None]
            absent = [path for path in paths if not os.path.isfile(path)]
            if absent:
                raise FileNotFoundError(
                    f"{len(absent)} files of {self.name} {split} are missing: {shortened(absent)}."
                )
        # A subset may have none of the examples that an optional part keeps.
        if allow_subset and part is not self.parts[0]:
            if not all(any(map(is_kept, listed)) for listed in examples.values()):
                return
        builder = self._builder(
            part,
            data_dir,
            examples={
                split: self._encoded(split, listed, progress or (lambda *_: None))
                for split, listed in examples.items()
            },
            metadata={
                "complete": all(len(examples[s]) == n for s, n in part.splits.items()),
                "listed": {split: len(listed) for split, listed in examples.items()},
            },
        )
        _check_complete(builder.write(), allow_subset)

    def _check_number(
        self, split: str, number: int, official: int, allow_subset: bool, where: str
    ) -> None:
        if number != official and not (allow_subset and 0 < number < official):
            raise ValueError(
                f"{self.name} has {official} examples in {split!r}; {where} has {number}. Complete"
                " it, or prepare what is there with --allow_subset (if it is fewer than that)."
            )

    def _encoded(
        self, split: str, examples: Sequence[ReleasedExample], progress: Progress
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        left_out = 0
        for index, example in enumerate(examples):
            stored = encode(example)
            if stored is not None:
                yield index, stored
            left_out += stored is None
            progress(f"preparing {self.name} {split}", index + 1, len(examples))
        if left_out == len(examples):
            raise ValueError(
                f"all {left_out} examples of {self.name} {split} were left out; are the labels"
                " those of the official release?"
            )

    def _builder(self, part: Part, data_dir: str | None, **written: Any) -> RecordBuilder:
        from deeplab_tf.data.records import RecordBuilder

        return RecordBuilder(self.stored_as or self.name, part.name, data_dir, **written)

    def open(self, data_dir: str | None) -> OpenDataset:
        """Opens what is prepared.

        Args:
          data_dir: where prepared datasets are; None: TFDS' default place.

        Returns:
          The dataset, with the splits of the parts that are prepared.

        Raises:
          FileNotFoundError: the dataset is not prepared.
          ValueError: its files are damaged.
        """
        stored, absent, notes = {}, {}, []
        for part in self.parts:
            builder = self._builder(part, data_dir)
            if os.path.isdir(builder.data_dir):
                stored |= {split: RecordSource(builder, split) for split in builder.info.splits}
                for split, expected in part.expected_kept.items():
                    listed = _written(builder, "listed")[split]
                    notes.append(f"{split}: kept {len(stored[split]):,} of {listed:,}; {expected}")
            elif part is self.parts[0]:
                raise FileNotFoundError(
                    f"{self.name} is not prepared: there is no {builder.data_dir}."
                    f" {self._how_to(part, data_dir)}"
                )
            else:
                reason = f"it is not prepared. {self._how_to(part, data_dir)}"
                absent |= dict.fromkeys(part.splits, reason)
        sources = dict(stored)
        for split, names in self.joined.items():
            lacking = [name for name in names if name not in stored]
            if lacking:
                absent[split] = absent[lacking[0]]
            else:
                sources[split] = JoinedSource([stored[name] for name in names])
        if self.relabel is not None:
            sources = {s: RelabeledSource(source, self.relabel) for s, source in sources.items()}
        spec = DatasetSpec(
            name=self.name,
            class_names=self.class_names,
            ignore_label=IGNORE_LABEL,
            palette=self.palette,
            splits={split: len(source) for split, source in sources.items()},
        )
        return OpenDataset(spec=spec, sources=sources, absent=absent, notes=tuple(notes))

    def _how_to(self, part: Part, data_dir: str | None) -> str:
        place = f" --data_dir={data_dir}" if data_dir else ""
        return (
            f"Download these files to a directory D:\n{part.needed()}\nthen run python"
            f" scripts/prepare_dataset.py --dataset=release --dataset.name={self.name}"
            f" --raw_dir=D{place}"
        )


def _check_complete(builder: RecordBuilder, allow_subset: bool) -> None:
    if not (_written(builder, "complete") or allow_subset):
        raise ValueError(
            f"{builder.data_dir} was prepared with --allow_subset and lacks examples. Remove this"
            " directory to prepare it again, or give --allow_subset to keep it."
        )


def _written(builder: RecordBuilder, key: str) -> Any:
    """What `_prepare_part` wrote beside the examples."""
    metadata = builder.info.metadata
    if not metadata or key not in metadata.keys():
        raise ValueError(
            f"{builder.data_dir} is damaged: metadata.json lacks {key!r}. Remove this directory and"
            " prepare the dataset again."
        )
    return metadata[key]
