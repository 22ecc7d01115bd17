"""Secrets that are known by their shape: the detectors of detect-secrets, behind cheap checks for a word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from detect_secrets.filters.heuristic import is_prefixed_with_dollar_sign, is_templated_secret
from detect_secrets.plugins.artifactory import ArtifactoryDetector
from detect_secrets.plugins.aws import AWSKeyDetector
from detect_secrets.plugins.azure_storage_key import AzureStorageKeyDetector
from detect_secrets.plugins.base import RegexBasedDetector
from detect_secrets.plugins.basic_auth import BasicAuthDetector
from detect_secrets.plugins.cloudant import CloudantDetector
from detect_secrets.plugins.discord import DiscordBotTokenDetector
from detect_secrets.plugins.github_token import GitHubTokenDetector
from detect_secrets.plugins.gitlab_token import GitLabTokenDetector
from detect_secrets.plugins.ibm_cloud_iam import IbmCloudIamDetector
from detect_secrets.plugins.ibm_cos_hmac import IbmCosHmacDetector
from detect_secrets.plugins.jwt import JwtTokenDetector
from detect_secrets.plugins.mailchimp import MailchimpDetector
from detect_secrets.plugins.npm import NpmDetector
from detect_secrets.plugins.openai import OpenAIDetector
from detect_secrets.plugins.private_key import PrivateKeyDetector
from detect_secrets.plugins.pypi_token import PypiTokenDetector
from detect_secrets.plugins.sendgrid import SendGridDetector
from detect_secrets.plugins.slack import SlackDetector
from detect_secrets.plugins.softlayer import SoftlayerDetector
from detect_secrets.plugins.square_oauth import SquareOAuthDetector
from detect_secrets.plugins.stripe import StripeDetector
from detect_secrets.plugins.telegram_token import TelegramBotTokenDetector
from detect_secrets.plugins.twilio import TwilioKeyDetector

from training.corpus.findings import Finding, mask


class _Shape(NamedTuple):
    detector: RegexBasedDetector
    needs: tuple[str, ...]  # one of these (lower case) is in every text that holds such a key, or that names its owner
    group: int = 0  # of the detector's expressions that is the secret, where they have groups


# The words keep the slow expressions (3 MB/s and less) away from most files. Public addresses (IPPublicDetector) are no
# secrets; what KeywordDetector finds is in `assigned.py`, for on its own it takes every `password = "password"`.
_SHAPES = (
    _Shape(ArtifactoryDetector(), ("artifactory", "jfrog")),
    _Shape(AWSKeyDetector(), ("akia", "asia", "abia", "acca", "a3t", "aws"), group=1),
    _Shape(AzureStorageKeyDetector(), ("accountkey=",)),
    _Shape(BasicAuthDetector(), ("://",), group=1),
    _Shape(CloudantDetector(), ("cloudant",), group=1),
    _Shape(DiscordBotTokenDetector(), ("discord",)),
    _Shape(GitHubTokenDetector(), ("ghp_", "gho_", "ghu_", "ghs_", "ghr_")),
    _Shape(GitLabTokenDetector(), ("glpat-", "gldt-", "glft-", "glsoat-", "glrt-", "gr1348941", "glcbt-", "glimt-")),
    _Shape(GitLabTokenDetector(), ("glptt-", "glagent-", "gloas-")),
    _Shape(IbmCloudIamDetector(), ("ibm",), group=1),
    _Shape(IbmCosHmacDetector(), ("ibm",), group=1),
    _Shape(JwtTokenDetector(), ("eyj",)),
    _Shape(MailchimpDetector(), ("mailchimp", "-us")),
    _Shape(NpmDetector(), ("_authtoken",), group=1),
    _Shape(OpenAIDetector(), ("t3blbkfj",)),
    _Shape(PypiTokenDetector(), ("pypi-age",)),
    _Shape(SendGridDetector(), ("sg.",)),
    _Shape(SlackDetector(), ("xox", "hooks.slack.com")),
    _Shape(SoftlayerDetector(), ("softlayer",), group=1),
    _Shape(SquareOAuthDetector(), ("sq0csp-",)),
    _Shape(StripeDetector(), ("k_live_",)),
    _Shape(TelegramBotTokenDetector(), ("telegram", "bot")),
    _Shape(TwilioKeyDetector(), ("ac", "sk")),
)
_KEY_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?)-----(.{1,20000}?)-----END \1-----", re.DOTALL)
_KEY_BODY = re.compile(r"(?<!\\)[A-Za-z0-9+/=]{16,}")
_TEMPLATE = re.compile(r"[{}<>]|%[sdr(]")


def find_keys(text: str) -> Iterator[Finding]:
    """Keys and passwords of a known shape, and the bodies of private keys. Nothing is verified over the network."""
    lower = text.lower()
    for detector, needs, group in _SHAPES:
        if any(word in lower for word in needs):
            for expression in detector.denylist:
                for match in expression.finditer(text):
                    which = min(group, expression.groups)
                    secret = match.group(which)
                    if secret and not _is_placeholder(secret) and any(detector.analyze_string(match.group())):
                        yield Finding(*match.span(which), detector.secret_type, mask(secret))
    if "private key" in lower:
        for block in _KEY_BLOCK.finditer(text):
            for body in _KEY_BODY.finditer(text, *block.span(2)):
                yield Finding(*body.span(), PrivateKeyDetector.secret_type, mask(body.group()))


def _is_placeholder(secret: str) -> bool:
    """Whether a template is filled in later, as in `://{user}:{password}@`: masking it would break the code."""
    return is_templated_secret(secret) or is_prefixed_with_dollar_sign(secret) or bool(_TEMPLATE.search(secret))
