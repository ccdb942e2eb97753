"""What the authors' released code computes, stored small.

The released code ran once with weights and an image that rules make of names and shapes. A file of
tests/expected/parity holds the names and shapes of its weights and a part of its outputs, so the
comparison needs neither the released code nor its weights. With the complete outputs at hand,
--accept writes the files again.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import zlib
from collections.abc import Callable, Mapping

import numpy as np
import pytest

EXPECTED = pathlib.Path(__file__).parent / "expected" / "parity"
_POINTS = 9  # of each axis of a feature map, evenly from its first row to its last


def deeplab_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A weight of DeepLab's released code, by its TensorFlow 1 name and shape."""
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    kind = name.split("/")[-1]
    if kind in ("gamma", "moving_variance"):
        return generator.uniform(0.5, 1.5, shape).astype(np.float32)
    fan_in = {"weights": math.prod(shape[:3]), "depthwise_weights": math.prod(shape[:2])}
    deviation = 1 / math.sqrt(fan_in[kind]) if kind in fan_in else 0.1
    return (generator.standard_normal(shape) * deviation).astype(np.float32)


def fastfcn_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A weight of FastFCN's released code, by its name in the state_dict and its torch shape."""
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    kind = name.split(".")[-1]
    if kind == "codewords":
        values = generator.uniform(-1, 1, shape)
    elif kind == "scale":
        values = generator.uniform(-1, 0, shape) / 64
    elif kind in ("bias", "running_mean"):
        values = 0.1 * generator.standard_normal(shape)
    elif len(shape) > 1:
        values = generator.standard_normal(shape)
        # Without its mean: otherwise offsets of the channels drown what differs between pixels.
        values -= values.mean(axis=tuple(range(1, len(shape))), keepdims=True)
        values *= math.sqrt(2 / math.prod(shape[1:]))
    else:
        values = generator.uniform(0.5, 1.5, shape)
    # These two keep the residual sums and the codewords' assignments from saturating.
    factors = {"bn3.weight": 1 / 4, "head.encmodule.encoding.4.running_var": 400}
    values = values * math.prod(f for end, f in factors.items() if name.endswith(end))
    return values.astype(np.float32)


def sample(feature_map: np.ndarray) -> np.ndarray:
    """[N, H, W, K] at points that are evenly spread, the corners included."""
    rows, columns = (_points(size) for size in feature_map.shape[1:3])
    return feature_map[:, rows][:, :, columns]


def _points(size: int) -> np.ndarray:
    return np.linspace(0, size - 1, min(size, _POINTS)).round().astype(int)


@dataclasses.dataclass(frozen=True)
class Case:
    """One run of the released code.

    Attributes:
      image: uint8 [N, H, W, 3] RGB.
      weights: released name -> array.
      outputs: name -> float32 [N, 9, 9, K], a part of the output before it is resized; see
        `sample`.
      deviations: name -> standard deviation of the whole output.
      label_map: uint8 [N, H, W].
    """

    image: np.ndarray
    weights: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    deviations: dict[str, float]
    label_map: np.ndarray

    def check(self, outputs: Mapping[str, np.ndarray], logits: np.ndarray) -> None:
        """Compares what a network of ours computes.

        Args:
          outputs: name -> [N, h, w, K], one for each of the case's.
          logits: [N, H, W, K], resized to the image's size.
        """
        assert outputs.keys() == self.outputs.keys()
        for name, expected in self.outputs.items():
            found = sample(outputs[name]) if expected.ndim == 4 else outputs[name]
            difference = np.abs(found - expected).max() / self.deviations[name]
            assert difference <= 1e-4, f"{name}: off by {difference} standard deviations"
        second, first = np.moveaxis(np.partition(logits, -2, axis=-1)[..., -2:], -1, 0)
        wrong = logits.argmax(axis=-1) != self.label_map
        assert not np.any(wrong & (first - second > 1e-3))


def load(request: pytest.FixtureRequest, family: str, name: str) -> Case:
    """Reads a case, which --accept writes first.

    Args:
      request: of the test.
      family: "deeplab" or "fastfcn".
      name: of the case.
    """
    path = EXPECTED / family / f"{name}.npz"
    if request.config.getoption("accept"):
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **_FAMILIES[family].convert(_reference(request, family), name))
    with np.load(path) as stored:
        arrays = dict(stored)
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (*arrays["label_map"].shape, 3)).astype(np.uint8)
    weights = _weights(_FAMILIES[family].rule, arrays["names"], arrays["shapes"])
    assert _checksum(image, weights) == arrays["checksum"], (
        "NumPy's random numbers differ from those that the released code ran with; install a"
        " version of NumPy that has them"
    )
    outputs = {key.split("/")[1]: v for key, v in arrays.items() if key.startswith("output/")}
    deviations = {key: float(arrays[f"deviation/{key}"]) for key in outputs}
    return Case(image, weights, outputs, deviations, arrays["label_map"])


def _weights(rule: Callable, names: np.ndarray, shapes: np.ndarray) -> dict[str, np.ndarray]:
    return {
        str(name): rule(str(name), tuple(shape[shape > 0].tolist()))
        for name, shape in zip(names, shapes, strict=True)
    }


def _checksum(image: np.ndarray, weights: Mapping[str, np.ndarray]) -> int:
    checksum = zlib.crc32(image)
    for array in weights.values():
        checksum = zlib.crc32(array, checksum)
    return checksum


def _reference(request: pytest.FixtureRequest, family: str) -> pathlib.Path:
    return request.getfixturevalue("shared_dir") / "reference" / family


def _deeplab_arrays(directory: pathlib.Path, name: str) -> dict[str, np.ndarray]:
    description = json.loads((directory / f"{name}.json").read_text())
    stored = np.load(directory / f"{name}.npz")
    step = description["outputs"]["logits"]["stored_subsample"]
    logits = stored["logits"][None]
    full = [(size - 1) * step + 1 for size in logits.shape[1:3]]
    rows, columns = (_points(size) // step for size in full)
    return _arrays(
        deeplab_weight,
        description["variables"],
        image=stored["input"][None],
        outputs={"logits": (logits[:, rows][:, :, columns], logits.std())},
        label_map=stored["argmax"][None],
    )


def _fastfcn_arrays(directory: pathlib.Path, name: str) -> dict[str, np.ndarray]:
    description = json.loads((directory / f"{name}.json").read_text())
    stored = np.load(directory / f"{name}.npz")
    maps = {"logits": stored["logits_low"], "aux_logits": stored["aux_logits_low"]}
    outputs = {key: (sample(values), values.std()) for key, values in maps.items()}
    if "se_pred" in stored:
        outputs["se_logits"] = (stored["se_pred"], stored["se_pred"].std())
    return _arrays(
        fastfcn_weight,
        [entry for entry in description["state_dict"] if entry["shape"]],  # no counters of batches
        image=stored["image"],
        outputs=outputs,
        label_map=stored["argmax"],
    )


def _arrays(
    rule: Callable,
    variables: list[dict],
    *,
    image: np.ndarray,
    outputs: Mapping[str, tuple[np.ndarray, float]],
    label_map: np.ndarray,
) -> dict[str, np.ndarray]:
    """What a file holds; shapes are padded with 0, since no axis has that size."""
    names = np.array([variable["name"] for variable in variables])
    shapes = np.zeros((len(names), 4), np.int32)
    for row, variable in zip(shapes, variables, strict=True):
        row[: len(variable["shape"])] = variable["shape"]
    weights = _weights(rule, names, shapes)
    for variable in variables:
        assert zlib.crc32(weights[variable["name"]]) == variable["crc32"], variable["name"]
    return {
        "names": names,
        "shapes": shapes,
        "checksum": np.uint32(_checksum(image, weights)),
        "label_map": label_map,
        **{f"output/{key}": values for key, (values, _) in outputs.items()},
        **{f"deviation/{key}": np.float32(value) for key, (_, value) in outputs.items()},
    }


@dataclasses.dataclass(frozen=True)
class _Family:
    rule: Callable[[str, tuple[int, ...]], np.ndarray]
    convert: Callable[[pathlib.Path, str], dict[str, np.ndarray]]


_FAMILIES = {
    "deeplab": _Family(deeplab_weight, _deeplab_arrays),
    "fastfcn": _Family(fastfcn_weight, _fastfcn_arrays),
}
