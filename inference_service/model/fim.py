"""The prompt format: one definition for training and for serving.

SPM, variant 2 (Bavarian et al. 2022, section 3): prefix and middle are contiguous, so a typed character extends
the cached prompt and typed-through text is already in the KV cache.

    {<file_sep> path \\n text}*
    <file_sep> path <fim_prefix> <fim_suffix> suffix <fim_middle> prefix | middle <|endoftext|>

Without a suffix the current file is written like a context file and simply goes on.
"""

from __future__ import annotations

from collections.abc import Sequence

from inference_service.model.tokenizer import FILE_SEP, FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX, Tokenizer


def context_file(tokenizer: Tokenizer, path: str, text: str) -> list[int]:
    """A whole other file before the current one."""
    return [tokenizer.sentinel(FILE_SEP), *tokenizer.encode(f"{path}\n{text}")]


def fim_head(tokenizer: Tokenizer, path: str | None, suffix: Sequence[int]) -> list[int]:
    """Everything between the context files and the prefix, for a suffix that is already tokens."""
    head = [tokenizer.sentinel(FILE_SEP), *tokenizer.encode(path)] if path else []
    sentinels = tokenizer.sentinel(FIM_PREFIX), tokenizer.sentinel(FIM_SUFFIX)
    return [*head, *sentinels, *suffix, tokenizer.sentinel(FIM_MIDDLE)]


def plain_head(tokenizer: Tokenizer, path: str | None) -> list[int]:
    """What stands before the text of a file that is only continued."""
    return [tokenizer.sentinel(FILE_SEP), *tokenizer.encode(f"{path}\n")] if path else []
