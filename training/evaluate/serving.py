"""A model directory's model in the form in which the service computes with it."""

from __future__ import annotations

from inference_service.model.directory import LoadedModel
from inference_service.model.gpt import GPT
from inference_service.model.quantize import int8_linear_works, use_int8_linears


def as_served(loaded: LoadedModel) -> tuple[GPT, str]:
    """The model as a CPU serves it, and what it computes with: int8, or float32 where torch has no int8 kernel."""
    model = loaded.build_float()
    if not int8_linear_works():
        return model, "float32"
    use_int8_linears(model, loaded.int8)
    return model, "int8"
