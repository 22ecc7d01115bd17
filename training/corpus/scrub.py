"""Takes secrets and e-mail addresses out of Python source, and leaves source that means the same otherwise."""

from __future__ import annotations

from collections import Counter

from training.corpus.assigned import find_assigned
from training.corpus.emails import find_emails
from training.corpus.filters import parses
from training.corpus.findings import Finding
from training.corpus.key_shapes import find_keys


def scrub(text: str) -> tuple[str | None, Counter[str]]:
    """`text` with what was found replaced by text of the same kind, and how often each kind was.

    Only literals and comments change. None instead of the text when the result would no longer parse.
    """
    found = _apart(sorted([*find_keys(text), *find_assigned(text), *find_emails(text)]))
    found = _in_literals(text, found) if found else []  # most files are left as they are, without parsing them again
    if not found:
        return text, Counter()
    scrubbed = _replace(text, found)
    return (scrubbed if parses(scrubbed) else None), Counter(finding.kind for finding in found)


def _apart(found: list[Finding]) -> list[Finding]:
    kept: list[Finding] = []
    for finding in found:
        if not kept or finding.start >= kept[-1].end:
            kept.append(finding)
    return kept


def _in_literals(text: str, found: list[Finding]) -> list[Finding]:
    """Those inside string literals and comments: where a `?`, which no Python code has, does no harm.

    So `a@b.data` stays where it is a product of matrices, and no tokenizer has to run (that is 20 times slower).
    """
    probes = [finding._replace(replacement="?" * len(finding.replacement)) for finding in found]
    if parses(_replace(text, probes)):
        return found
    return [finding for finding, probe in zip(found, probes, strict=True) if parses(_replace(text, [probe]))]


def _replace(text: str, found: list[Finding]) -> str:
    parts, end = [], 0
    for finding in found:
        parts += [text[end : finding.start], finding.replacement]
        end = finding.end
    return "".join([*parts, text[end:]])
