"""Registers our layers with Keras as soon as Keras is imported, and not before.

`keras.models.load_model` knows a layer of ours only if its module has been imported. If
`import deeplab_tf` imported it, that would import Keras too and take seconds.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Sequence


def register_layers_with_keras(modules: Sequence[str]) -> None:
    """Imports modules right after Keras: now if Keras is there, else when it is imported.

    Args:
      modules: names of modules that register layers when they are imported.
    """
    finder = _Finder(modules)
    sys.meta_path.insert(0, finder)
    if "keras" in sys.modules:
        finder.import_modules()


class _Finder(importlib.abc.MetaPathFinder):
    """Finds Keras and the modules as the other finders do, and follows their imports."""

    def __init__(self, modules: Sequence[str]):
        self._modules = modules
        self.running: set[str] = set()  # which of them are being imported

    def find_spec(self, name, path=None, target=None) -> importlib.machinery.ModuleSpec | None:
        if name != "keras" and name not in self._modules:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        found = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self)
        return spec

    def import_modules(self) -> None:
        for name in self._modules:
            # A later module may need what this one has not defined yet. When it has, its loader
            # calls this function again.
            if name in self.running:
                return
            importlib.import_module(name)


class _Loader(importlib.abc.Loader):
    """Loads a module by another loader, then imports the modules."""

    def __init__(self, loader: importlib.abc.Loader, finder: _Finder):
        self._loader = loader
        self._finder = finder

    def __getattr__(self, name: str):
        return getattr(self._loader, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        module.__spec__.loader = module.__loader__ = self._loader
        self._finder.running.add(module.__name__)
        try:
            self._loader.exec_module(module)
        finally:
            self._finder.running.remove(module.__name__)
        if "keras" in sys.modules:
            self._finder.import_modules()
