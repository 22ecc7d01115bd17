"""The prompt formats: one definition for training and for serving.

Midfill's own is SPM, variant 2 (Bavarian et al. 2022, section 3): prefix and middle are contiguous, so a typed
character extends the cached prompt and typed-through text is already in the KV cache.

    {<file_sep> path \\n text}*
    <file_sep> path <fim_prefix> <fim_suffix> suffix <fim_middle> prefix | middle <|endoftext|>

The other families' formats are written down as their papers and model cards give them. Without a suffix the current
file is written like a context file and simply goes on.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inference_service.model.tokenizer import Tokenizer

_SENTINEL = r"▁?<[^<>{}\[\]\s]+>"
_PARTS = re.compile(rf"({_SENTINEL}|\{{suffix\}})")
_ONLY_WITH_PATH = re.compile(r"\[(.*?)\]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class FimFormat:
    """How a family of models writes its prompts, as templates.

    `<names>` are sentinels of its tokenizer; {path}, {text}, {prefix} and {suffix} stand for themselves; what is in
    [brackets] is left out where the path is not known. `file` is a whole other file. `infill` is the file that is
    being completed, None in a model that was not trained to fill in.
    """

    name: str
    file: str
    infill: str | None

    @property
    def sentinels(self) -> set[str]:
        return set(re.findall(_SENTINEL, self.file + (self.infill or "")))


SPM2 = FimFormat(
    "spm2",
    "<file_sep>{path}\n{text}",
    "[<file_sep>{path}]<fim_prefix><fim_suffix>{suffix}<fim_middle>{prefix}",
)
# A comment with the path is all that a model without file sentinels can be told.
PLAIN = FimFormat("plain", "# {path}\n{text}\n", None)
FAMILIES = (
    FimFormat(
        "qwen2.5-coder",
        "<|file_sep|>{path}\n{text}\n",
        "[<|file_sep|>{path}\n]<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>",
    ),
    FimFormat(
        "deepseek-coder",
        "#{path}\n{text}\n",
        "<｜fim▁begin｜>[#{path}\n]{prefix}<｜fim▁hole｜>{suffix}<｜fim▁end｜>",
    ),
    FimFormat("codellama", "# {path}\n{text}\n", "▁<PRE>{prefix}▁<SUF>{suffix}▁<MID>"),
    FimFormat(
        "starcoder2",
        "<file_sep>{path}\n{text}",
        "[<file_sep>]<fim_prefix>[{path}\n]{prefix}<fim_suffix>{suffix}<fim_middle>",
    ),
    FimFormat(
        "mellum",
        "<filename>{path}\n{text}\n",
        "[<filename>{path}\n]<fim_suffix>{suffix}<fim_prefix>{prefix}<fim_middle>",
    ),
    FimFormat(
        "starcoder",
        "<filename>{path}\n{text}\n",
        "[<filename>{path}\n]<fim_prefix>{prefix}<fim_suffix>{suffix}<fim_middle>",
    ),
    FimFormat("santacoder", "# {path}\n{text}\n", "<fim-prefix>{prefix}<fim-suffix>{suffix}<fim-middle>"),
)
FORMATS = {format_.name: format_ for format_ in (SPM2, PLAIN, *FAMILIES)}


def family_format(model_type: str, sentinels: Container[str]) -> FimFormat:
    """The format of a Hugging Face `model_type` whose tokenizer has `sentinels`; PLAIN when it knows none."""
    # StarCoder and Mellum, which is a Llama, have the same sentinels in another order
    other = "starcoder" if model_type == "llama" else "mellum"
    for format_ in FAMILIES:
        if format_.name != other and all(name in sentinels for name in format_.sentinels):
            return format_
    return PLAIN


def context_file(tokenizer: Tokenizer, path: str, text: str) -> list[int]:
    """A whole other file before the current one."""
    template = tokenizer.fim.file
    return _render(tokenizer, template, path, text.removesuffix("\n") if template.endswith("\n") else text)


def fim_head(tokenizer: Tokenizer, path: str | None, suffix: Sequence[int]) -> list[int]:
    """Everything between the context files and the prefix, for a suffix that is already tokens.

    Raises ValueError when the model was not trained to fill in.
    """
    return _render(tokenizer, _infill(tokenizer).partition("{prefix}")[0], path, suffix=suffix)


def fim_tail(tokenizer: Tokenizer, path: str | None, suffix: Sequence[int]) -> list[int]:
    """Everything between the prefix and the middle; nothing in Midfill's own format. Raises like `fim_head`."""
    return _render(tokenizer, _infill(tokenizer).partition("{prefix}")[2], path, suffix=suffix)


def plain_head(tokenizer: Tokenizer, path: str | None) -> list[int]:
    """What stands before the text of a file that is only continued."""
    return _render(tokenizer, tokenizer.fim.file.partition("{text}")[0], path) if path else []


def file_text(format_: FimFormat, path: str, text: str) -> str:
    """A whole other file as text, for a server that has the tokenizer."""
    return _without_brackets(format_.file, path).format(path=path, text=defused(format_, text))


def infill_text(format_: FimFormat, path: str | None, prefix: str, suffix: str) -> str:
    """The whole prompt as text, sentinels included, for a server that has the tokenizer. Raises ValueError."""
    if format_.infill is None:
        raise ValueError(f"the format {format_.name} has no place for a suffix")
    template = _without_brackets(format_.infill, path)
    # codellama's sentinels begin with the tokenizer's sign for a blank
    return template.replace("▁", " ").format(
        path=defused(format_, path or ""), prefix=defused(format_, prefix), suffix=defused(format_, suffix)
    )


def defused(format_: FimFormat, text: str) -> str:
    """`text` in which the format's sentinels are plain text: a blank after their first character takes their power."""
    for name in format_.sentinels:
        plain = name.removeprefix("▁")
        text = text.replace(plain, f"{plain[0]} {plain[1:]}")
    return text


def _without_brackets(template: str, path: str | None) -> str:
    return _ONLY_WITH_PATH.sub(r"\1" if path else "", template)


def _infill(tokenizer: Tokenizer) -> str:
    if tokenizer.fim.infill is None:
        raise ValueError("this model was not trained to fill in: leave the suffix out")
    return tokenizer.fim.infill


def _render(
    tokenizer: Tokenizer, template: str, path: str | None, text: str = "", suffix: Sequence[int] = ()
) -> list[int]:
    tokens: list[int] = []
    for part in _PARTS.split(_without_brackets(template, path)):
        if part == "{suffix}":
            tokens += suffix
        elif _PARTS.fullmatch(part):
            tokens.append(tokenizer.sentinel(part))
        elif part:
            tokens += tokenizer.encode(part.format(path=path, text=text))
    return tokens
