"""How much of what is sent, in characters: half for the prefix, a fifth for the suffix, the rest for other files."""

from __future__ import annotations

from dataclasses import dataclass

from lsp_server.documents import PREFIX_BUDGET, SUFFIX_BUDGET

# The service cuts exactly, in tokens, and gives the prefix what the others leave. So prefix and suffix may be too
# long; a context that is too long is dropped there.
_PREFIX_CHARS_A_TOKEN, _SUFFIX_CHARS_A_TOKEN, _CONTEXT_CHARS_A_TOKEN = 6.4, 4.0, 3.0
_PREFIX_SHARE, _SUFFIX_SHARE, _CONTEXT_SHARE = 0.5, 0.2, 0.3


@dataclass(frozen=True)
class Budget:
    """Characters. Without a word from the service nothing is sent from other files."""

    prefix: int = PREFIX_BUDGET
    suffix: int = SUFFIX_BUDGET
    context: int = 0


def budget_for(context_length: int | None, max_tokens: int) -> Budget:
    """For a model whose prompt and completion have at most `context_length` tokens together; None if unknown."""
    if context_length is None:
        return Budget()
    room = context_length - min(max_tokens, context_length // 2)
    return Budget(
        prefix=min(max(int(room * _PREFIX_SHARE * _PREFIX_CHARS_A_TOKEN), 4000), 48_000),
        suffix=min(max(int(room * _SUFFIX_SHARE * _SUFFIX_CHARS_A_TOKEN), 1000), 12_000),
        context=min(int(room * _CONTEXT_SHARE * _CONTEXT_CHARS_A_TOKEN), 24_000),
    )
