"""int8 weights, symmetric per output channel, and the linear layer that multiplies with them on a CPU."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from inference_service.model.gpt import GPT


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(out, in) float -> int8 of the same shape in -127..127 and float32 scales (out,)."""
    weight = weight.detach().float()
    scale = weight.abs().amax(dim=1).clamp_min(1e-8) / 127
    return (weight / scale[:, None]).round().clamp(-127, 127).to(torch.int8), scale


def dequantize_rows(weight: Tensor, scale: Tensor) -> Tensor:
    return weight.float() * scale[:, None]


class Int8Linear(nn.Module):
    """x (..., in) float32 -> (..., out) float32 with dynamic W8A8: the input is quantized per call.

    The kernel is FBGEMM's. Without VNNI instructions it sums pairs in 16 bits, so inputs use 7 bits there.
    """

    def __init__(self, weight: Tensor, scale: Tensor) -> None:
        super().__init__()
        with warnings.catch_warnings():
            # torch announces the end of quantized tensors; the torch we pin has them, and the tests would tell
            warnings.filterwarnings("ignore", message=".*quantized tensor creation functions.*")
            packed = torch._make_per_channel_quantized_tensor(
                weight, scale, torch.zeros_like(scale, dtype=torch.long), 0
            )
        self._packed = torch.ops.quantized.linear_prepack(packed, None)
        self._reduce_range = not torch.cpu._is_vnni_supported()

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.quantized.linear_dynamic(x, self._packed, self._reduce_range)


def int8_linear_works() -> bool:
    """Whether this build of torch has the kernel for this processor, and it computes what it should."""
    generator = torch.Generator().manual_seed(0)
    weight, x = torch.randn(64, 128, generator=generator), torch.randn(3, 128, generator=generator)
    int8, scale = quantize_rows(weight)
    try:
        error = Int8Linear(int8, scale)(x) - x @ weight.T
    except (RuntimeError, AttributeError):  # no kernel for this processor; no such operator in this torch
        return False
    return bool(error.norm() < 0.05 * (x @ weight.T).norm())


def use_int8_linears(model: GPT, int8: dict[str, tuple[Tensor, Tensor]]) -> None:
    """Replace the head and each projection of the blocks by an Int8Linear over the given rows, in place.

    `int8` maps state-dict names to (weight, scale).
    """
    model.quantized_head = Int8Linear(*int8["embedding.weight"])
    for layer, block in enumerate(model.blocks):
        for part, child in (("attention", "qkv"), ("attention", "out"), ("mlp", "up"), ("mlp", "down")):
            # one matrix, or the parts of a stacked one in their order
            names = sorted(name for name in int8 if name.startswith(f"blocks.{layer}.{part}.{child}."))
            weights, scales = zip(*(int8[name] for name in names), strict=True)
            setattr(getattr(block, part), child, Int8Linear(torch.cat(weights), torch.cat(scales)))
