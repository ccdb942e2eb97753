"""Reads the recipe.json of version 0.1 of this package, whose options were flat fields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

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
_HEADS = {
    "encoding": {"kernel_size": "head_kernel_size", "lateral": "head_lateral"},
    "aspp": {"aspp_dropout": "aspp_dropout"},
}


def upgraded(text: str) -> str:
    """The text of a recipe.json with flat fields as one of version 1; any other text as it is."""
    try:
        tree = json.loads(text)
        if not isinstance(tree, dict) or "version" in tree or "data" not in tree:
            return text
        return json.dumps(_parts(tree))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return text  # `from_json` reports what is wrong with it


def _parts(old: Mapping[str, Any]) -> dict[str, Any]:
    data, train, evaluation = old["data"], old["train"], old["eval"]
    kinds = {"optimizer": "sgd", "schedule": "poly", "loss": "cross_entropy"}
    return {
        "version": 1,
        "model": _fastfcn(old["model"]) if old["model"]["kind"] == "fastfcn" else old["model"],
        "dataset": _dataset(data),
        "augment": [_augmentation(name, data) for name in data["augmentations"]],
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
            "kind": evaluation["protocol"],
            **{name: evaluation[name] for name in ("scales", "flip", "output_stride")},
            **{new: evaluation[was] for new, was in _PREDICT[evaluation["protocol"]].items()},
        },
        "eval": {n: evaluation[n] for n in ("split", "excluded_classes", "absent_classes")},
        "expected_mean_iou": old.get("expected_mean_iou"),
    }


def _dataset(data: Mapping[str, Any]) -> dict[str, Any]:
    name = data["dataset"]
    kind = "tfds" if name.startswith("tfds:") else name
    if kind not in _DATASETS:
        return {"kind": "release", "name": name}
    named = {"name": name.removeprefix("tfds:")} if kind == "tfds" else {}
    return {"kind": kind, **named, **{field: data[field] for field in _DATASETS[kind]}}


def _augmentation(name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    options = {new: data[was] for new, was in _AUGMENTATIONS[name].items()}
    if name in _SCALED:
        options["low"], options["high"] = data["scale_range"]
    if name in _WHOLE_GRAYS:
        options["pad_color"] = int(options["pad_color"])
    return {"kind": name, **options}


def _fastfcn(old: Mapping[str, Any]) -> dict[str, Any]:
    same = ("kind", "backbone", "output_stride", "aux_weight", "fine_tune_batch_norm",
            "batch_norm_momentum")  # fmt: skip
    upsampler: dict[str, Any] = {"kind": old["upsampler"]}
    if old["upsampler_channels"] is not None and old["upsampler"] not in ("none", "bilinear"):
        upsampler["channels"] = old["upsampler_channels"]
    if old["upsampler"] == "jpu":
        upsampler["final_conv"] = old["jpu_final_conv"]
    head = {"kind": old["head"], "dropout": old["dropout"]}
    head |= {new: old[was] for new, was in _HEADS.get(old["head"], {}).items()}
    if old["head_channels"] is not None:
        head["channels"] = old["head_channels"]
    if old["head"] == "encoding" and old["se_weight"] is not None:
        head["se_weight"] = old["se_weight"]
    return {**{name: old[name] for name in same}, "upsampler": upsampler, "head": head}
