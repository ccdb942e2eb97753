"""Reads the recipe.json of version 0.1 of this package, whose options were flat fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from deeplab_tf.recipe.json_files import checked, require
from deeplab_tf.recipe.options import lookup

# Kind -> option -> old field of "data".
_DATASETS = {
    "folder": (
        "images_dir",
        "labels_dir",
        "val_images_dir",
        "val_labels_dir",
        "val_list",
        "val_fraction",
        "class_names_file",
        "ignore_label",
    ),
    "shapes": ("num_examples",),
    "tfds": ("class_names_file", "ignore_label"),
}
_PADDING = {"pad_color": "pad_color", "pad_label": "pad_label"}
_AUGMENTATIONS = {
    "center_crop": {"size": "crop_size"},
    "random_blur": {},
    "random_color": {"strength": "color_jitter"},
    "random_crop": {"size": "crop_size", **_PADDING},
    "random_flip": {},
    "random_rotation": _PADDING,
    "random_scale": {"step": "scale_step"},
    "random_short_side": {"short_side": "base_size"},
    "resize_to_range": {
        "min_side": "resize_min_side",
        "max_side": "resize_max_side",
        "factor": "resize_factor",
    },
}
_SCALED = ("random_scale", "random_short_side")
_WHOLE_GRAYS = ("random_rotation",)  # rounded pad_color down
# Part -> option -> old field of "train".
_OF_TRAIN = {
    "optimizer": {
        "momentum": "momentum",
        "weight_decay": "weight_decay",
        "decay_on": "weight_decay_on",
        "lr_multipliers": "lr_multipliers",
    },
    "schedule": {
        "base_lr": "base_lr",
        "power": "poly_power",
        "end_lr": "end_lr",
        "decay_steps": "decay_steps",
        "warmup_steps": "slow_start_steps",
        "warmup_lr": "slow_start_lr",
        "warmup": "burn_in",
    },
    "loss": {
        "class_weights": "class_weights",
        "top_k_percent_pixels": "top_k_percent_pixels",
        "hard_example_mining_step": "hard_example_mining_step",
    },
}
_TRAIN = (
    "steps",
    "epochs",
    "seed",
    "loss_normalization",
    "devices",
    "log_every",
    "save_every",
    "eval_every",
    "max_to_keep",
)
_PREDICT = {
    "whole_image": {"pad_size": "pad_size"},
    "sliding_window": {"long_side": "base_size", "window_size": "crop_size"},
}
# All fields of the sections; that of "model" are those of the network, for FastFCN:
_OF_FASTFCN = {
    "kind",
    "backbone",
    "output_stride",
    "aux_weight",
    "fine_tune_batch_norm",
    "batch_norm_momentum",
    "upsampler",
    "upsampler_channels",
    "jpu_final_conv",
    "head",
    "head_channels",
    "head_kernel_size",
    "head_lateral",
    "dropout",
    "aspp_dropout",
    "se_weight",
}
_OF_DATA = {
    "dataset",
    "augmentations",
    "scale_range",
    "batch_size",
    "train_split",
    "on_bad_example",
    *(field for fields in _DATASETS.values() for field in fields),
    *(field for fields in _AUGMENTATIONS.values() for field in fields.values()),
}
_ALL_OF_TRAIN = {
    "loss",
    *_TRAIN,
    *(field for fields in _OF_TRAIN.values() for field in fields.values()),
}
_OF_EVAL = {
    "split",
    "scales",
    "flip",
    "protocol",
    "output_stride",
    "excluded_classes",
    "absent_classes",
    *(field for fields in _PREDICT.values() for field in fields.values()),
}
_HEADS = {
    "encoding": {"kernel_size": "head_kernel_size", "lateral": "head_lateral"},
    "aspp": {"aspp_dropout": "aspp_dropout"},
}


def is_version_0(tree: Mapping[str, Any]) -> bool:
    """Whether the tree of a recipe has flat fields."""
    return "version" not in tree and "data" in tree


def as_version_1(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The tree of a recipe with flat fields as one of version 1.

    Raises:
      ValueError: a key is missing or unknown, or a value that decides about others is not what it
        must be; the message names the key. Other values keep theirs, and are checked there.
    """
    sections = {"model": dict, "data": dict, "train": dict, "eval": dict}
    optional = {"expected_mean_iou": tree.get("expected_mean_iou")}
    checked({**tree, **optional}, {**sections, "expected_mean_iou": float | None})
    model, data, train, evaluation = (_Section(name, tree[name]) for name in sections)
    data.check_keys(_OF_DATA)
    train.check_keys(_ALL_OF_TRAIN)
    train.choice("loss", ("cross_entropy",))
    evaluation.check_keys(_OF_EVAL)
    kinds = {"optimizer": "sgd", "schedule": "poly", "loss": "cross_entropy"}
    protocol = evaluation.choice("protocol", _PREDICT)
    return {
        "version": 1,
        "model": _fastfcn(model) if model["kind"] == "fastfcn" else dict(model),
        "dataset": _dataset(data),
        "augment": _augmentations(data),
        **{
            part: {"kind": kinds[part], **{new: train[was] for new, was in names.items()}}
            for part, names in _OF_TRAIN.items()
        },
        "train": {
            **{name: train[name] for name in _TRAIN},
            "batch_size": data["batch_size"],
            "split": data["train_split"],
            "on_bad_example": data["on_bad_example"],
        },
        "predict": {
            "kind": protocol,
            **{name: evaluation[name] for name in ("scales", "flip", "output_stride")},
            **{new: evaluation[was] for new, was in _PREDICT[protocol].items()},
        },
        "eval": {n: evaluation[n] for n in ("split", "excluded_classes", "absent_classes")},
        **optional,
    }


class _Section(dict):
    """One of the four objects of flat fields."""

    def __init__(self, name: str, fields: Mapping[str, Any]):
        super().__init__(fields)
        self._name = name

    def __missing__(self, key: str) -> Any:
        raise ValueError(f"{self._name}.{key} must be there; it is missing.")

    def check_keys(self, known: Iterable[str]) -> None:
        """Raises ValueError for a field that would be left out in silence."""
        for key in self:
            lookup(dict.fromkeys(known), key, f"key of {self._name}")

    def choice(self, key: str, known: Iterable[str]) -> str:
        """The value of a field that must be one of the known texts."""
        value = self[key]
        wanted = f"one of {', '.join(known)}"
        require(isinstance(value, str) and value in known, f"{self._name}.{key}", wanted, value)
        return value

    def of(self, key: str, hint: Any) -> Any:
        """The value of a field that must be of a type, with tuples for lists."""
        return checked({key: self[key]}, {key: hint}, path=self._name)[key]


def _dataset(data: _Section) -> dict[str, Any]:
    name = data.of("dataset", str)
    kind = "tfds" if name.startswith("tfds:") else name
    if kind not in _DATASETS:
        return {"kind": "release", "name": name}
    named = {"name": name.removeprefix("tfds:")} if kind == "tfds" else {}
    return {"kind": kind, **named, **{field: data[field] for field in _DATASETS[kind]}}


def _augmentations(data: _Section) -> list[dict[str, Any]]:
    names = data.of("augmentations", tuple[str, ...])
    for i, name in enumerate(names):
        lookup(_AUGMENTATIONS, name, f"data.augmentations[{i}]")
    return [_augmentation(name, data) for name in names]


def _augmentation(name: str, data: _Section) -> dict[str, Any]:
    options = {new: data[was] for new, was in _AUGMENTATIONS[name].items()}
    if name in _SCALED:
        options["low"], options["high"] = data.of("scale_range", tuple[float, float])
    if name in _WHOLE_GRAYS:
        options["pad_color"] = int(data.of("pad_color", float))
    return {"kind": name, **options}


def _fastfcn(old: _Section) -> dict[str, Any]:
    old.check_keys(_OF_FASTFCN)
    same = ("kind", "backbone", "output_stride", "aux_weight", "fine_tune_batch_norm",
            "batch_norm_momentum")  # fmt: skip
    upsampler: dict[str, Any] = {"kind": old.of("upsampler", str)}
    if old["upsampler_channels"] is not None and old["upsampler"] not in ("none", "bilinear"):
        upsampler["channels"] = old["upsampler_channels"]
    if old["upsampler"] == "jpu":
        upsampler["final_conv"] = old["jpu_final_conv"]
    head = {"kind": old.of("head", str), "dropout": old["dropout"]}
    head |= {new: old[was] for new, was in _HEADS.get(old["head"], {}).items()}
    if old["head_channels"] is not None:
        head["channels"] = old["head_channels"]
    if old["head"] == "encoding" and old["se_weight"] is not None:
        head["se_weight"] = old["se_weight"]
    return {**{name: old[name] for name in same}, "upsampler": upsampler, "head": head}
