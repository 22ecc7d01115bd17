"""One small checkpoint a family, written once a session."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Any]]:
    """By family: the directory of a checkpoint and the model of `transformers` that was written there."""
    import transformers

    from tests.inference_service.model.huggingface.small_models import random_model, save

    transformers.utils.logging.disable_progress_bar()
    folder = tmp_path_factory.mktemp("checkpoints")

    @functools.cache
    def write(family: str) -> tuple[Path, Any]:
        model = random_model(family)
        return save(model, family, folder / family), model

    return write
