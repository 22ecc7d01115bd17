"""How to reach a service: whom to trust, which certificate to show, and through which proxy.

Modules that cost memory are imported when the first connection needs them.
"""

from __future__ import annotations

import ssl
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lsp_server.settings import Settings

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


class NetworkSettingsError(Exception):
    """A file or value in the settings that cannot be used; the message is a sentence for the user."""


@dataclass(frozen=True)
class Network:
    """What the settings say; empty strings mean the system's."""

    ca_bundle: str = ""
    client_cert: str = ""
    client_key: str = ""
    proxy: str = ""

    @classmethod
    def of(cls, settings: Settings) -> Network:
        """The part of `settings` that belongs here."""
        return cls(settings.tls_ca_bundle, settings.tls_client_cert, settings.tls_client_key, settings.proxy)

    def trust(self, base_url: str) -> ssl.SSLContext:
        """The TLS context for `base_url`: the operating system's authorities, and those of the bundle.

        Raises NetworkSettingsError.
        """
        if urlsplit(base_url).scheme != "https" and not self.proxy.startswith("https"):
            # The trust store costs time and memory that plain http can do without.
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        import truststore

        context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca_bundle:
            bundle = _file("tls.caBundle", self.ca_bundle)
            try:
                context.load_verify_locations(bundle)
            except (ssl.SSLError, OSError) as error:
                raise NetworkSettingsError(f"midfill.tls.caBundle: {bundle} holds no PEM certificate") from error
        if self.client_cert:
            certificate = _file("tls.clientCert", self.client_cert)
            key = _file("tls.clientKey", self.client_key) if self.client_key else None
            try:
                # Without a password at hand OpenSSL would ask for one on the terminal.
                context.load_cert_chain(certificate, key, password=lambda: "")
            except (ssl.SSLError, OSError) as error:
                raise NetworkSettingsError(
                    f"midfill.tls.clientCert: {certificate} and its key do not fit together, or are not PEM files "
                    "without a passphrase"
                ) from error
        return context

    def proxy_for(self, base_url: str) -> str | None:
        """The proxy that stands between us and `base_url`, from the setting or the environment; None is none.

        A proxy never stands between us and this very machine.
        """
        from urllib.request import getproxies, proxy_bypass

        parts = urlsplit(base_url)
        host = parts.hostname or ""
        if host in _LOOPBACK or proxy_bypass(f"{host}:{parts.port}" if parts.port else host):
            return None
        found = getproxies()
        proxy = self.proxy or found.get(parts.scheme) or found.get("all") or ""
        # SOCKS needs a package of its own; what cannot be used must not stop the direct way.
        return proxy if proxy.startswith(("http://", "https://")) else None

    def client(self, base_url: str, timeout_s: float) -> Any:
        """An `httpx.AsyncClient` for `base_url`. Raises NetworkSettingsError."""
        # Its command line, which nobody calls here, would bring click, rich and pygments along: 5 MB.
        sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
        import httpx

        context = self.trust(base_url)
        url = self.proxy_for(base_url)
        return httpx.AsyncClient(
            base_url=base_url,
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 3.0)),
            verify=context,
            proxy=httpx.Proxy(url, ssl_context=context if url.startswith("https") else None) if url else None,
            # Decided above; httpx would ask the environment again and read ~/.netrc.
            trust_env=False,
        )


def _file(key: str, value: str) -> Path:
    path = Path(value).expanduser()
    if not path.is_file():
        raise NetworkSettingsError(f"midfill.{key}: there is no file {value}")
    return path
