"""int8 weights, symmetric per output channel, and the linear layer that multiplies with them on a CPU."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from inference_service.model.gpt import GPT
from inference_service.model.rotary import rotary_tables

if TYPE_CHECKING:
    from inference_service.model.directory import LoadedModel


def row_scale(weight: Tensor) -> Tensor:
    """Weights (out, in) float32 -> scales (out,) with which the largest of each row becomes 127."""
    return torch.linalg.vector_norm(weight, ord=torch.inf, dim=1).clamp_min(1e-8) / 127


def round_to_row(weight: Tensor, scale: Tensor) -> Tensor:
    """Codes -127..127 (as float) of weights, for scales that broadcast against them."""
    return (weight / scale).round_().clamp_(-127, 127)


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(out, in) float -> int8 of the same shape in -127..127 and float32 scales (out,)."""
    weight = weight.detach().float()
    scale = row_scale(weight)
    return round_to_row(weight, scale[:, None]).to(torch.int8), scale


def dequantize_rows(weight: Tensor, scale: Tensor) -> Tensor:
    return weight.float() * scale[..., None]


class Int8Linear(nn.Module):
    """x (..., in) float32 -> (..., out) float32 with dynamic W8A8: the input is quantized per call.

    The kernel is FBGEMM's. Without VNNI instructions it sums pairs in 16 bits, so inputs use 7 bits there.
    """

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        with warnings.catch_warnings():
            # torch announces the end of quantized tensors; the torch we pin has them, and the tests would tell
            warnings.filterwarnings("ignore", message=".*quantized tensor creation functions.*")
            packed = torch._make_per_channel_quantized_tensor(
                weight, scale, torch.zeros_like(scale, dtype=torch.long), 0
            )
        self._packed = torch.ops.quantized.linear_prepack(packed, None if bias is None else bias.detach().float())
        self._reduce_range = not torch.cpu._is_vnni_supported()

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.quantized.linear_dynamic(x, self._packed, self._reduce_range)


class Int8Embedding(nn.Module):
    """Token ids -> float32 rows of an int8 table, widened as they are looked up."""

    def __init__(self, weight: Tensor, scale: Tensor) -> None:
        super().__init__()
        self._weight, self._scale = weight, scale

    def forward(self, tokens: Tensor) -> Tensor:
        return dequantize_rows(self._weight[tokens], self._scale[tokens])


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


def round_to_int8(model: GPT, int8: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Give each matrix, in place, the values of its int8 form: that of `int8`, or one made here."""
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2 and not name.startswith("positions."):
            parameter.data.copy_(dequantize_rows(*(int8.get(name) or quantize_rows(parameter))))


def use_int8_linears(model: GPT, int8: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Replace the head, the embeddings of tokens and each projection of the blocks by their int8 form, in place.

    `int8` maps state-dict names to (weight, scale); matrices that it lacks are quantized here, one after the other.
    """
    head = "embedding.weight" if model.unembedding is None else "unembedding.weight"
    model.unembedding = Int8Linear(*(int8.get(head) or quantize_rows(model.head_weight)))
    for name in ("embedding", "bigrams"):
        table = getattr(model, name)
        if table is not None:
            setattr(model, name, Int8Embedding(*(int8.get(f"{name}.weight") or quantize_rows(table.weight))))
    for layer, block in enumerate(model.blocks):
        for part, child in (("attention", "qkv"), ("attention", "out"), ("mlp", "up"), ("mlp", "down")):
            projection: nn.Module = getattr(getattr(block, part), child)
            # one matrix, or the parts of a stacked one in their order
            rows = [
                int8.get(f"blocks.{layer}.{part}.{child}.{name}") or quantize_rows(matrix)
                for name, matrix in projection.named_parameters()
                if matrix.dim() == 2
            ]
            weights, scales = zip(*rows, strict=True)
            quantized = Int8Linear(torch.cat(weights), torch.cat(scales), projection.bias)  # type: ignore[arg-type]
            setattr(getattr(block, part), child, quantized)


def build_int8(loaded: LoadedModel) -> GPT:
    """The model with int8 linears, without ever holding its matrices as floats; in evaluation mode."""
    with torch.device("meta"):
        model = GPT(loaded.config)
    floats = {  # matrices of another layout are widened one at a time, when they are quantized
        name: tensor.float() if tensor.dim() == 1 or name.startswith("positions") else tensor
        for name, tensor in loaded.floats.items()
    }
    model.load_state_dict(floats, strict=False, assign=True)
    if loaded.config.positions == "rotary":
        model.cos, model.sin = rotary_tables(loaded.config)
    use_int8_linears(model, loaded.int8)
    return model.eval().requires_grad_(False)
