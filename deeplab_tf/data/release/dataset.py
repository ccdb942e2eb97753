"""Datasets made once from the files of an official release, and read by index from then on."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence

import tensorflow_datasets as tfds
from google.protobuf import json_format

from deeplab_tf.recipe.options import DataConfig
from deeplab_tf.data.sources import JoinedSource, RelabeledSource
from deeplab_tf.data.release.builder import IGNORE_LABEL, RawBuilder, RawBuilderConfig, RawExample
from deeplab_tf.data.release.archives import Archive, Progress, RawFiles, shortened
from deeplab_tf.recipe.dataset_spec import Color, DatasetSpec, OpenDataset
from deeplab_tf.data.records import TfdsSource


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """Splits that come from the same archives, and are prepared together."""

    name: str
    splits: Mapping[str, int]  # split -> examples that the release has
    needs: tuple[tuple[Archive, ...], ...]  # one archive of each row
    list_examples: Callable[[RawFiles, str], Sequence[RawExample]]  # of a split

    def missing(self, raw: RawFiles) -> list[str]:
        """What of `needs` is not there, one line each."""
        return [" or ".join(map(str, row)) for row in self.needs if not any(map(raw.find, row))]

    def needed(self) -> str:
        """`needs` as lines."""
        return "\n".join("  " + " or ".join(map(str, row)) for row in self.needs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RawDataset:
    """A dataset that is prepared from an official release."""

    name: str
    class_names: tuple[str, ...]
    palette: tuple[Color, ...]
    parts: tuple[Part, ...]  # the first must be there, the others may be
    # split -> stored splits of which it is made, for those that are not stored themselves
    joined: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    # Another reading of a dataset that is stored already: its name, and its class -> class here.
    stored_as: str | None = None
    relabel: Mapping[int, int] | None = None

    def prepare(
        self,
        raw_dir: str,
        data_dir: str | None,
        *,
        allow_subset: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Prepares all parts that are in `raw_dir` and not prepared yet.

        A part appears in `data_dir` when it is complete; one that was broken off is begun anew.

        Args:
          raw_dir: has the archives, or what is in them.
          data_dir: where prepared datasets are; None: TFDS' default place.
          allow_subset: take fewer examples than the release has.
          progress: is told what is done.

        Raises:
          FileNotFoundError: files are missing.
          ValueError: files are damaged, or the number of examples is not that of the release.
          OSError: files cannot be written, e.g. the disk is full.
        """
        raw = RawFiles(raw_dir, progress)
        for part in self.parts:
            builder = self._builder(part, data_dir)
            if os.path.isdir(builder.data_dir):
                self._check_whole(part, builder, allow_subset)
                continue
            missing = part.missing(raw)
            if not missing:
                self._prepare_part(part, raw, data_dir, allow_subset, progress)
            elif part is self.parts[0]:
                raise FileNotFoundError(
                    f"{raw_dir} lacks files of {self.name}; get them and put them there:\n  "
                    + "\n  ".join(missing)
                )

    def _prepare_part(
        self,
        part: Part,
        raw: RawFiles,
        data_dir: str | None,
        allow_subset: bool,
        progress: Progress | None,
    ) -> None:
        examples = {split: part.list_examples(raw, split) for split in part.splits}
        for split, listed in examples.items():
            self._check_number(split, len(listed), part.splits[split], allow_subset, raw.raw_dir)
            files = [path for e in listed for path in (e.image, e.label) if path is not None]
            absent = [path for path in files if not os.path.isfile(path)]
            if absent:
                raise FileNotFoundError(
                    f"{len(absent)} files of {self.name} {split} are missing: {shortened(absent)}."
                )
        try:
            self._builder(part, data_dir, examples, progress).download_and_prepare(
                download_config=tfds.download.DownloadConfig(try_download_gcs=False)
            )
        except FileExistsError:  # another process has prepared the same meanwhile
            self._check_whole(part, self._builder(part, data_dir), allow_subset)
        except RuntimeError as error:  # of the writer of records, e.g. where the disk is full
            raise OSError(f"{self.name} cannot be written: {error}") from error

    def _check_number(
        self, split: str, number: int, official: int, allow_subset: bool, where: str
    ) -> None:
        if number != official and not (allow_subset and 0 < number < official):
            raise ValueError(
                f"{self.name} has {official} examples in {split!r}; {where} has {number}. Complete"
                " it, or prepare what is there with --allow_subset (of fewer examples than that)."
            )

    def _check_whole(
        self, part: Part, builder: tfds.core.DatasetBuilder, allow_subset: bool
    ) -> None:
        if builder.info.metadata["complete"] or allow_subset:
            return
        raise ValueError(
            f"{builder.data_dir} was prepared with --allow_subset and lacks examples. Remove this"
            " directory to prepare it anew, or give --allow_subset to keep it."
        )

    def _builder(
        self,
        part: Part,
        data_dir: str | None,
        examples: Mapping[str, Sequence[RawExample]] | None = None,
        progress: Progress | None = None,
    ) -> RawBuilder:
        complete = all(len(examples[s]) == n for s, n in part.splits.items()) if examples else None
        config = RawBuilderConfig(part.name, examples or {}, complete, progress)
        name = self.stored_as or self.name
        try:
            builder = RawBuilder(
                dataset=name, data_dir=data_dir, config=config, file_format="array_record"
            )
        except json_format.ParseError as error:
            raise ValueError(
                f"{part.name} of {name} in {data_dir} is damaged: {error}. Remove this directory"
                " and prepare the dataset anew."
            ) from error
        if os.path.isdir(builder.data_dir) and not builder.info.splits:
            raise ValueError(
                f"{builder.data_dir} is damaged: it lacks dataset_info.json. Remove this directory"
                " and prepare the dataset anew."
            )
        return builder

    def open(self, data: DataConfig, data_dir: str | None) -> OpenDataset:
        """Opens what was prepared.

        Args:
          data: not used; everything is known of the release.
          data_dir: where prepared datasets are; None: TFDS' default place.

        Returns:
          The dataset, with the splits of the parts that were prepared.

        Raises:
          FileNotFoundError: the dataset was not prepared.
        """
        del data
        stored, absent = {}, {}
        for part in self.parts:
            builder = self._builder(part, data_dir)
            if os.path.isdir(builder.data_dir):
                stored |= {split: TfdsSource(builder, split) for split in builder.info.splits}
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
        return OpenDataset(spec=spec, sources=sources, absent=absent)

    def _how_to(self, part: Part, data_dir: str | None) -> str:
        place = f" --data_dir={data_dir}" if data_dir else ""
        return (
            f"Get these files and put them into a directory D:\n{part.needed()}\nthen run python"
            f" scripts/prepare_dataset.py --data.dataset={self.name} --raw_dir=D{place}"
        )
