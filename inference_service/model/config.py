"""The architecture of a model: one frozen description of our own recipes and of every family that we load."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Positions = Literal["rotary", "learned"]
NormKind = Literal["rms", "layer"]
Activation = Literal["relu2", "gelu", "gelu_tanh", "swiglu"]


@dataclass(frozen=True, slots=True)
class GPTConfig:
    """Architecture. `context_length` in tokens; the defaults are Midfill's own recipe.

    head_dim: 0 means d_model / n_head.
    logit_softcap: 0 means none.
    rope_factor: positions are divided by it (linear scaling, Chen et al. 2023). Where `rope_original_context` is given,
        only wavelengths that fit it less than `rope_low_freq` times are, those that fit it more than `rope_high_freq`
        times are left alone, and what lies between is blended (Llama 3.1).
    norm_affine: norms have a gain, and LayerNorms a bias.
    norm_eps: added to the mean square (RMSNorm) or variance (LayerNorm); 0 only guards against a division by zero.
    embedding_norm: the token embeddings are normed before the first block.
    bigram_rows: rows of a second embedding, of pairs of neighbouring tokens (hashed; Huang et al. 2025, "Over-Tokenized
        Transformer"); 0 means none. It costs memory but next to no arithmetic.
    qk_norm: queries and keys are RMS-normed, without gain, before they are rotated.
    """

    vocab_size: int
    n_layer: int
    n_head: int
    n_kv_head: int
    d_model: int
    d_ff: int
    context_length: int
    rope_base: float = 10_000.0
    logit_softcap: float = 15.0
    head_dim: int = 0
    positions: Positions = "rotary"
    rope_factor: float = 1.0
    rope_original_context: int = 0
    rope_low_freq: float = 1.0
    rope_high_freq: float = 4.0
    norm: NormKind = "rms"
    norm_affine: bool = False
    norm_eps: float = 0.0
    embedding_norm: bool = True
    qk_norm: bool = True
    activation: Activation = "relu2"
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    tied_head: bool = True
    bigram_rows: int = 0

    def __post_init__(self) -> None:
        for name in ("vocab_size", "n_layer", "n_head", "n_kv_head", "d_model", "d_ff", "context_length"):
            size = getattr(self, name)
            if not isinstance(size, int) or size < 1:
                raise ValueError(f"{name} must be a whole number above 0, not {size!r}")
        for name, allowed in (("positions", Positions), ("norm", NormKind), ("activation", Activation)):
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(f"{name} must be one of {', '.join(get_args(allowed))}, not {getattr(self, name)!r}")
        if not self.head_dim:
            if self.d_model % self.n_head:
                raise ValueError(f"d_model {self.d_model} is not a multiple of n_head {self.n_head}: give head_dim")
            object.__setattr__(self, "head_dim", self.d_model // self.n_head)
        if self.positions == "rotary" and self.head_dim % 2:
            raise ValueError(f"rotary positions need an even head_dim, not {self.head_dim} (d_model / n_head)")
        if self.n_head % self.n_kv_head:
            raise ValueError(f"n_head {self.n_head} is not a multiple of n_kv_head {self.n_kv_head}")
        if self.norm == "layer" and self.norm_eps <= 0:
            raise ValueError("norm 'layer' needs a norm_eps above 0")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
