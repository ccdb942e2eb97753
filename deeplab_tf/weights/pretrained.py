"""Networks from files of weights, whose names and shapes show which network it is.

Namings, model configs and classes come in as arguments, since they are in layers above this one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from deeplab_tf.recipe.options import Options, check_num_classes, lookup
from deeplab_tf.weights.fit import FitReport, check_fit, fit_weights, weights_by_name
from deeplab_tf.weights.formats import FORMATS, check_floats, find_format, read_arrays
from deeplab_tf.weights.naming import Naming, Recognized, find_naming
from deeplab_tf.weights.skeleton import exceeds, without_memory

if TYPE_CHECKING:
    import keras
    import numpy as np

    from deeplab_tf.recipe.dataset_spec import DatasetSpec
    from deeplab_tf.recipe.parts import ModelConfig

_USUAL_CLASSES = 255  # ours: those that labels of 8 bits can name

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A file of weights and the network that it belongs to.

    Attributes:
      path: the file.
      config: of the network.
      num_classes: outputs of the file's classifier; None: the file holds a backbone alone.
      arrays: array by the file's own name.
      naming: whose names these are.
      from_file: options of the config that follow from the arrays.
    """

    path: str
    config: ModelConfig
    num_classes: int | None
    arrays: Mapping[str, np.ndarray]
    naming: Naming
    from_file: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def text(self) -> str:
        """The network in a line."""
        return description(self.config, self.num_classes)

    def build(
        self,
        num_classes: int | None = None,
        *,
        input_channels: int = 3,
        auxiliary: bool = False,
    ) -> tuple[keras.Model, FitReport]:
        """Builds the network and loads the weights; see `zoo.from_checkpoint` for arguments.

        Returns:
          (the network, what was loaded and what was not).
        """
        classes = self.num_classes or num_classes
        if classes is None:
            raise ValueError(
                f"{self.path} holds a backbone alone. Give num_classes, for a head that is randomly"
                " initialized."
            )
        if self.num_classes is not None:
            _named(self.path, lambda: check_num_classes(self.num_classes))
        build = {"input_shape": (None, None, input_channels), "auxiliary": auxiliary}
        self._check_size(lambda: self.config.build(classes, **build))
        # With the file's own classes first: a file with a fault in it is refused.
        model = self.config.build(classes, **build)
        report = self.fit(model, partial=self.num_classes is None)
        if num_classes in (None, classes):
            return model, report
        arrays = {name: weight.numpy() for name, weight in weights_by_name(model).items()}
        model = self.config.build(num_classes, **build)
        return model, dataclasses.replace(
            fit_weights(model, arrays, partial=True), adapted=report.adapted
        )

    def fit(self, model: keras.Model, *, partial: bool = False) -> FitReport:
        """Loads the weights into a model; arguments and errors as in `fit_weights`."""
        return _named(
            self.path, lambda: fit_weights(model, self._arrays_of(model), partial=partial)
        )

    def _arrays_of(self, model: keras.Model) -> dict[str, np.ndarray]:
        return self.naming.to_our_names(self.arrays, model)

    def _check_size(self, build: Callable[[], keras.Model]) -> None:
        """Checks the network before it takes memory, if the file gave it unusual widths.

        A few bytes can be the name and shape of one weight that makes all others huge.
        """
        usual = type(self.config)(backbone=self.config.backbone)
        widths = [(value, getattr(usual, name)) for name, value in self.from_file.items()]
        if not any(exceeds(*pair) for pair in [*widths, (self.num_classes, _USUAL_CLASSES)]):
            return
        model = without_memory(build)
        if model is not None:
            _named(self.path, lambda: check_fit(model, self._arrays_of(model)))


def description(config: ModelConfig, num_classes: int | None) -> str:
    """A network in a line: its backbone, what is not a default, and its classes."""
    options = _options_that_differ(config, type(config)(backbone=config.backbone))
    text = ", ".join([f"backbone={config.backbone!r}", *options])
    classes = f"{num_classes} classes" if num_classes else "a backbone alone"
    return f"{config.kind}({text}), {classes}"


def _options_that_differ(found: Options, expected: Options) -> list[str]:
    return [
        f"{field.name}={_described(getattr(found, field.name))}"
        for field in dataclasses.fields(found)
        if getattr(found, field.name) != getattr(expected, field.name)
    ]


def _described(value: Any) -> str:
    if not isinstance(value, Options):
        return repr(value)
    options = ", ".join(_options_that_differ(value, type(value)()))
    return f"{value.kind}({options})" if options else value.kind


def recognize(
    path: str,
    *,
    namings: Sequence[Naming],
    model_configs: Mapping[str, type[ModelConfig]],
    **options: Any,
) -> Pretrained:
    """Finds out which network a file of weights is of; see `zoo.from_checkpoint` for arguments."""
    format_name, arrays = read_arrays(path)
    if FORMATS[format_name].open_network is not None:
        raise ValueError(f"{path} holds a whole network; open it with from_checkpoint.")
    try:
        naming, found = find_naming(arrays, namings, options)
        config = _config(found, lookup(model_configs, found.kind, "model"), options)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return Pretrained(
        path=path,
        config=config,
        num_classes=found.num_classes,
        arrays=arrays,
        naming=naming,
        from_file=found.known,
    )


def _config(found: Recognized, config: type[ModelConfig], options: Mapping[str, Any]) -> Any:
    fields = [field.name for field in dataclasses.fields(config)]
    left_open = f"The weights leave open: {', '.join(n for n in fields if n not in found.known)}."
    for name in options:
        if name not in fields:
            raise ValueError(f"unknown option {name} of {found.kind}. {left_open}")
    recognized = config(**{**found.assumed, **found.known})
    chosen = config(**{**found.assumed, **found.known, **options})
    for name in options.keys() & found.known.keys():
        expected, given = getattr(recognized, name), getattr(chosen, name)
        same = type(expected) is type(given) if isinstance(expected, Options) else expected == given
        if not same:
            raise ValueError(
                f"{name} must be {expected!r}, as in the weights; got {given!r}. {left_open}"
            )
    return chosen


def from_checkpoint(
    path: str,
    *,
    namings: Sequence[Naming],
    model_configs: Mapping[str, type[ModelConfig]],
    dataset_specs: Mapping[int, DatasetSpec] | None = None,
    num_classes: int | None = None,
    output_stride: int | None = None,
    input_channels: int = 3,
    auxiliary: bool = False,
    print_fn: Callable[[str], None] | None = None,
    **options: Any,
) -> keras.Model:
    """`zoo.from_checkpoint`, for the networks that are passed in.

    `namings` are whose names the weights may have, `model_configs` the model configs by kind, and
    `dataset_specs` the classes that a released network with so many outputs has. The other
    arguments, the result and the errors are those of `zoo.from_checkpoint`.
    """
    if output_stride is not None:
        options["output_stride"] = output_stride
    print_fn = print_fn or (lambda text: None)
    known = FORMATS[find_format(path)]
    if known.open_network is not None:
        model = known.open_network(path)
        weights = weights_by_name(model)
        check_floats(path, {name: weight.numpy() for name, weight in weights.items()})
        _check_whole_network(path, model, num_classes, input_channels, auxiliary, options)
        return model
    found = recognize(path, namings=namings, model_configs=model_configs, **options)
    print_fn(f"recognized {found.text()}")
    model, report = found.build(num_classes, input_channels=input_channels, auxiliary=auxiliary)
    print_fn(report.text())
    model.dataset_spec = None
    if num_classes in (None, found.num_classes):
        model.dataset_spec = (dataset_specs or {}).get(found.num_classes)
    if model.dataset_spec is not None:
        print_fn(f"assuming the {found.num_classes} classes of {model.dataset_spec.name}")
    return model


def _check_whole_network(
    path: str,
    model: keras.Model,
    num_classes: int | None,
    input_channels: int,
    auxiliary: bool,
    options: Mapping[str, Any],
) -> None:
    """Checks that a Keras file's network, which cannot be changed, is the one that is asked for."""
    from deeplab_tf.layers.names import LOGITS

    outputs = model.output[LOGITS] if isinstance(model.output, dict) else model.output
    wanted = [
        ("num_classes", num_classes, (None, outputs.shape[-1])),
        ("input_channels", input_channels, (3, model.input_shape[-1])),
        ("auxiliary", auxiliary, (False, isinstance(model.output, dict))),
        *((name, value, ()) for name, value in options.items()),
    ]
    differing = [f"{name}={value!r}" for name, value, fitting in wanted if value not in fitting]
    if differing:
        raise ValueError(
            f"{path} holds a whole network, which cannot have other options; got"
            f" {', '.join(differing)}. Build the network that you need and use load_weights."
        )


def load_weights(
    model: keras.Model, path: str, *, namings: Sequence[Naming], partial: bool = False
) -> FitReport:
    """`zoo.load_weights`, for weights with the names of these `namings`."""
    format_name, arrays = read_arrays(path)
    if FORMATS[format_name].open_network is None:
        try:
            naming, _ = find_naming(arrays, namings)
            arrays = naming.to_our_names(arrays, model)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    return _named(path, lambda: fit_weights(model, arrays, partial=partial))


def _named(path: str, fit: Callable[[], T]) -> T:
    """The result of `fit`, whose errors get the file's name."""
    try:
        return fit()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
