"""What the datasets without an official release share."""

from __future__ import annotations

import dataclasses

from deeplab_tf.data.release.archives import Progress
from deeplab_tf.recipe.dataset_spec import OpenDataset
from deeplab_tf.recipe.options import Options


@dataclasses.dataclass(frozen=True, kw_only=True)
class WithoutRelease(Options):
    """A dataset that is not made from the archives of an official release."""

    def open(self, data_dir: str | None = None) -> OpenDataset:
        """Opens the dataset; `data_dir` is where prepared datasets are, None: TFDS' default."""
        raise NotImplementedError

    def prepare(
        self,
        data_dir: str | None = None,
        *,
        raw_dir: str | None = None,
        allow_subset: bool = False,
        progress: Progress | None = None,
    ) -> OpenDataset:
        """Prepares the dataset if it is not prepared yet, and opens it.

        Args:
          data_dir: where prepared datasets are; None: TFDS' default place.
          raw_dir: must be None: there are no archives.
          allow_subset: must be False: there are no official numbers of examples.
          progress: not called: TFDS shows its own progress.

        Raises:
          ValueError: an option of official releases is given, or the dataset is faulty.
          FileNotFoundError: files are missing.
        """
        if raw_dir is not None or allow_subset:
            raise ValueError(
                "--raw_dir and --allow_subset are for datasets with an official release,"
                f" --dataset=release; --dataset={self.kind} has none."
            )
        self.write(data_dir)
        return self.open(data_dir)

    def write(self, data_dir: str | None) -> None:
        """Writes to `data_dir` what `open` needs there: nothing, unless a kind overrides this."""
