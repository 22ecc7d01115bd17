"""What can go wrong on the way to a service, as sentences that say what to do. None of them quotes code."""

from __future__ import annotations

import json
import math
import ssl
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import httpx

E = TypeVar("E", bound=BaseException)


class ServiceFault(Exception):
    """The service gave no usable answer. The message is a sentence for the user and holds no code.

    `status` is the HTTP status or None; `retry_after_s` is what the service asked for; `lasting` is True
    where the next request would have fared no better, so that the breaker should count it; `unreachable` is True
    where nobody answered at all; `param` is the field of the request that the service does not take, or "".
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
        lasting: bool = True,
        unreachable: bool = False,
        param: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s
        self.lasting = lasting
        self.unreachable = unreachable
        self.param = param


def transport_fault(base_url: str, error: Exception) -> ServiceFault:
    import httpx

    # Only classes and OpenSSL's reason: httpx' messages may quote what was received.
    refusal = _cause(error, ssl.SSLError)
    # "More data, please" stands behind every connection that breaks under TLS, and is no problem of TLS.
    if refusal and not isinstance(refusal, ssl.SSLWantReadError | ssl.SSLWantWriteError):
        return distrusted(base_url, refusal)
    if isinstance(error, httpx.ProxyError):
        return ServiceFault(
            f"the proxy does not let us reach {base_url}: check midfill.proxy, HTTPS_PROXY and NO_PROXY",
            unreachable=True,
        )
    if isinstance(error, httpx.ConnectError):
        return ServiceFault(
            f"no service answers at {base_url}: check midfill.endpoint, or start the service", unreachable=True
        )
    if isinstance(error, httpx.TimeoutException):
        return ServiceFault(f"{base_url} did not answer in time", unreachable=True)
    return ServiceFault(f"the connection to {base_url} broke off ({type(error).__name__})")


def distrusted(base_url: str, error: ssl.SSLError) -> ServiceFault:
    """What to do about a TLS handshake that failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        text = (
            f"the certificate of {base_url} is not trusted ({error.verify_message}): install its authority in the "
            "operating system, or name its file in midfill.tls.caBundle"
        )
    else:
        text = (
            f"{base_url} and this machine cannot agree on TLS ({error.reason or 'no reason given'}): "
            "check midfill.tls.clientCert and midfill.endpoint"
        )
    return ServiceFault(text, unreachable=True)


def _cause(error: BaseException, kind: type[E]) -> E | None:
    """The exception of that kind among the causes of `error`."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, kind):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def refusal_of(base_url: str, response: httpx.Response, content: bytes) -> ServiceFault:
    status = response.status_code
    retry_after = _seconds(response.headers.get("Retry-After", ""))
    try:
        answer = json.loads(content)
    except ValueError:
        answer = None
    said = message_of(answer)
    detail = f": {said}" if said else ""
    text = {
        401: f"{base_url} wants a valid API key (set MIDFILL_TOKEN, midfill.tokenFile or midfill.tokenCommand){detail}",
        403: f"the API key is not allowed to ask {base_url} for completions{detail}",
        404: f"{base_url} has no such model or is not a Midfill service{detail}",
        413: f"{base_url} found the request too large{detail}",
        429: f"the quota of this API key at {base_url} is used up{detail}",
        503: f"{base_url} is busy or loading{detail}",
    }.get(status, f"{base_url} answered with status {status}{detail}")
    return ServiceFault(
        text, status=status, retry_after_s=retry_after, lasting=status not in (400, 413), param=_param_of(answer)
    )


def _seconds(retry_after: str) -> float | None:
    """What a Retry-After header says, which is seconds or a date; None where it says nothing."""
    from email.utils import parsedate_to_datetime

    try:
        wait = float(retry_after)
    except ValueError:
        try:
            wait = parsedate_to_datetime(retry_after).timestamp() - time.time()
        except ValueError:
            return None
    return max(wait, 0.0) if math.isfinite(wait) else None


def message_of(answer: object) -> str:
    """The service's own sentence, shortened."""
    error = answer.get("error") if isinstance(answer, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return str(message)[:200] if message else ""


def _param_of(answer: object) -> str:
    error = answer.get("error") if isinstance(answer, dict) else None
    return str(error.get("param") or "") if isinstance(error, dict) else ""
