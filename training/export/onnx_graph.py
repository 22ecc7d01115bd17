"""ONNX: for onnxruntime, and what TensorRT builds an engine from."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from inference_service.model.directory import LoadedModel
from training.export.checks import largest_difference, written
from training.export.program import trace

OPSET = 18
_LARGEST_FILE = 1 << 30  # bytes of weights; protobuf ends at 2 GiB


def export_onnx(loaded: LoadedModel, out: Path) -> str:
    """Write an ONNX file, with the weights in `out`.data where they are many, and compare it in onnxruntime.

    Returns what to tell. Raises BadExport.
    """
    from onnxruntime import InferenceSession

    model = loaded.build_float()
    weights = sum(parameter.numel() * 4 for parameter in model.parameters())
    with written(out) as path:
        with _quiet():
            program = torch.onnx.export(
                trace(model),
                input_names=["tokens"],
                output_names=["logits"],
                opset_version=OPSET,
                dynamic_shapes={"tokens": {0: "batch", 1: "sequence"}},
                verbose=False,
            )
        assert program is not None
        program.model.metadata_props["context_length"] = str(loaded.config.context_length)
        program.model.metadata_props["tokenizer_sha256"] = loaded.tokenizer.digest
        program.save(path, external_data=weights > _LARGEST_FILE)
        session = InferenceSession(path, providers=["CPUExecutionProvider"])

        def run(tokens: Tensor) -> Tensor:
            return torch.from_numpy(session.run(["logits"], {"tokens": tokens.numpy()})[0])

        difference = largest_difference(model, run)
    return f"opset {OPSET}; in onnxruntime logits differ from ours by at most {difference:.2g}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's notes about packages and interfaces that do not matter here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
