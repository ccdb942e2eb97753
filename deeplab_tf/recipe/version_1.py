"""Reads the recipe.json of version 1, whose networks had `fine_tune_batch_norm`."""

from __future__ import annotations

import json


def upgraded(text: str) -> str:
    """The text of a recipe.json of version 1 as one of version 2; any other text as it is."""
    try:
        tree = json.loads(text)
        if not isinstance(tree, dict) or tree.get("version") != 1:
            return text
        model = dict(tree["model"])
        if "fine_tune_batch_norm" in model:
            was = model.pop("fine_tune_batch_norm")
            new = {True: "synchronized", False: "frozen"}
            model["batch_norm"] = new[was] if isinstance(was, bool) else was
        return json.dumps({**tree, "version": 2, "model": model})
    except (ValueError, TypeError, KeyError, RecursionError):
        return text  # `from_json` reports what is wrong with it
