"""What the operator is shown of the versions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from inference_service.registry.deployment import BASE
from inference_service.registry.store import StoredModel


def entries(
    stored: Iterable[StoredModel], base: str | None, loaded: Collection[str], roles: Mapping[str, str | None]
) -> list[dict[str, Any]]:
    """Of the model that the settings name, whose content is `base`, and of every `stored` one.

    `loaded` and `roles` are by reference, which for a stored model is its version.
    """
    known = {BASE: {"version": BASE, "content": base, "folder": None, "problem": None}}
    for model in stored:
        known[model.version or model.folder] = {
            "version": model.version or None,
            "content": model.version or None,
            "folder": model.folder.rsplit("/", 1)[-1],
            "problem": model.problem,
        }
    return [entry | {"loaded": reference in loaded, "role": roles.get(reference)} for reference, entry in known.items()]
