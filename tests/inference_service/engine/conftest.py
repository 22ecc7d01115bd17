"""A random model of every variant of the decoder."""

import dataclasses
import threading
from types import SimpleNamespace

import pytest
import torch

from inference_service.engine.request import CompletionRequest
from inference_service.model.gpt import GPT, GPTConfig
from inference_service.model.quantize import dequantize_rows, quantize_rows

OWN = GPTConfig(300, n_layer=2, n_head=4, n_kv_head=2, d_model=32, d_ff=48, context_length=96)
FOREIGN = {
    "logit_softcap": 0.0, "embedding_norm": False, "qk_norm": False, "norm_affine": True, "norm_eps": 1e-5,
    "tied_head": False,
}  # fmt: skip
VARIANTS = {
    "own": {},
    "bigrams": {"bigram_rows": 64},
    "gpt2": FOREIGN | {
        "positions": "learned", "norm": "layer", "activation": "gelu_tanh", "n_kv_head": 4, "tied_head": True,
        "qkv_bias": True, "out_bias": True, "mlp_bias": True,
    },
    "starcoder2": FOREIGN | {"norm": "layer", "activation": "gelu", "qkv_bias": True, "mlp_bias": True},
    "qwen2": FOREIGN | {"activation": "swiglu", "qkv_bias": True, "head_dim": 16},
}  # fmt: skip


@pytest.fixture(params=VARIANTS)
def random_model(request):
    """`config`, `int8` rows, and the `model` that computes with just these in float32."""
    config = dataclasses.replace(OWN, **{"head_dim": 0} | VARIANTS[request.param])
    model = GPT(config).requires_grad_(False).eval()
    generator = torch.Generator().manual_seed(0)
    int8 = {}
    for name, parameter in model.named_parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
        if parameter.dim() == 2 and not name.startswith("positions"):
            int8[name] = quantize_rows(parameter)
            parameter.copy_(dequantize_rows(*int8[name]))
    return SimpleNamespace(config=config, int8=int8, model=model)


class Asked:
    """One request to an engine; `result` waits for its end."""

    def __init__(self, engine, fields):
        self.request = CompletionRequest(**fields)
        self.chunks = []
        self._ended, self._begun = threading.Event(), threading.Event()
        engine.submit(self.request, self._take)

    def _take(self, chunk):
        self.chunks.append(chunk)
        self._begun.set()
        if chunk.finish_reason:
            self._ended.set()

    def begun(self):
        assert self._begun.wait(60)

    def result(self):
        assert self._ended.wait(60)
        return "".join(chunk.text for chunk in self.chunks), self.chunks[-1].finish_reason


@pytest.fixture
def ask():
    """ask(engine, prompt=..., ...) -> an `Asked`."""
    return lambda engine, **fields: Asked(engine, fields)
