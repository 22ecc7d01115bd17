"""Recognizes credentials by their published forms: a model can have learnt somebody's."""

from __future__ import annotations

import re

_FORMS = re.compile(
    r"""
    -----BEGIN\ (?:[A-Z]+\ )?PRIVATE\ KEY-----
    | \b(?:AKIA|ASIA)[A-Z0-9]{16}\b                    # AWS access key
    | \bgh[pousr]_[A-Za-z0-9]{36,}\b                   # GitHub
    | \bgithub_pat_[A-Za-z0-9_]{60,}\b
    | \bglpat-[A-Za-z0-9_-]{20,}                       # GitLab
    | \bxox[abprs]-[A-Za-z0-9-]{10,}                   # Slack
    | \bsk-(?:proj-|ant-)?[A-Za-z0-9_-]{20,}           # OpenAI, Anthropic
    | \b[sr]k_live_[A-Za-z0-9]{20,}                    # Stripe
    | \bAIza[A-Za-z0-9_-]{35}                          # Google
    | \bnpm_[A-Za-z0-9]{36}\b
    | \beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}  # JSON web token
    """,
    re.VERBOSE,
)


def has_secret(text: str) -> bool:
    """Whether `text` holds a credential in a form that services publish."""
    return _FORMS.search(text) is not None
