"""The Triton kernels of a step of rows, under the names of their twins in `plain`."""

from inference_service.engine.kernels.triton_attention import attend
from inference_service.engine.kernels.triton_heads import heads
from inference_service.engine.kernels.triton_linear import linear

__all__ = ["attend", "heads", "linear"]
