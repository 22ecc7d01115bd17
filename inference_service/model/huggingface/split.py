"""Pre-tokenizers of tokenizer.json -> one regular expression with the same pieces, where we know one."""

from __future__ import annotations

from typing import Any

from inference_service.model.tokenizer import SPLIT_PATTERN

_DIGIT = r"\p{N}"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3 = _QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
_CJK = r"[一-龥ࠀ-一가-퟿]"
_DEEPSEEK = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", f"{_CJK}+", _DIGIT)

# What checkpoints without a tokenizer.json mean.
GPT2_STEPS = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
QWEN2_STEPS = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": _QWEN2}, "behavior": "Isolated", "invert": False},
        GPT2_STEPS | {"use_regex": False},
    ],
}

# Digits first, then GPT-2's pattern on what lies between them: blanks before a digit stay together.
_STARCODER = r"\p{N}|'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+"


def _deepseek() -> str:
    """Letters, then punctuation, take one blank before them; then the pieces are cut where the script changes between
    _CJK and the rest, and around digits. So every piece is of one script, and a blank of the other stands alone."""
    rest = r"(?:[^\s\p{L}\p{P}\p{N}]|[^\S\r\n](?![\p{L}\p{P}]))"
    scripts = (f"(?!{_CJK})", f"(?={_CJK})")
    pieces = [rf"(?:{s}\s)?(?:{s}{kind})+" for kind in (r"\p{L}", r"\p{P}") for s in scripts]
    return "|".join([r"[\r\n]", _DIGIT, *pieces, *(f"(?:{s}{rest})+" for s in scripts), r"\s"])


# Every pattern splits all of a text. Each is tested against the library on random text.
_KNOWN: dict[tuple[str, ...], str] = {
    (_GPT2,): _GPT2,
    (_DIGIT, _GPT2): _STARCODER,
    (_QWEN2,): _QWEN2,
    (_LLAMA3,): _LLAMA3,
    _DEEPSEEK: _deepseek(),
}
# and what an exported tokenizer of ours says
_KNOWN |= {(pattern,): pattern for pattern in (*_KNOWN.values(), SPLIT_PATTERN)}


def split_pattern(pre_tokenizer: dict[str, Any] | None) -> str | None:
    """The pattern of a byte-level `pre_tokenizer`, or None when it is not one that we know to translate."""
    steps = _flatten(pre_tokenizer)
    if not steps or steps[-1]["type"] != "ByteLevel" or steps[-1].get("add_prefix_space", True):
        return None
    chain = [_regex(step) for step in steps[:-1]]
    if steps[-1].get("use_regex", True):
        chain.append(_GPT2)
    return _KNOWN.get(tuple(chain))  # type: ignore[arg-type]


def is_byte_level(pre_tokenizer: dict[str, Any] | None) -> bool:
    return any(step["type"] == "ByteLevel" for step in _flatten(pre_tokenizer))


def _flatten(step: dict[str, Any] | None) -> list[dict[str, Any]]:
    if not step:
        return []
    if step["type"] == "Sequence":
        return [inner for nested in step["pretokenizers"] for inner in _flatten(nested)]
    return [step]


def _regex(step: dict[str, Any]) -> str | None:
    """The expression whose matches a step isolates."""
    if step["type"] == "Digits" and step.get("individual_digits"):
        return _DIGIT
    if step["type"] == "Split" and step["behavior"] == "Isolated" and not step.get("invert"):
        return step["pattern"].get("Regex")
    return None
