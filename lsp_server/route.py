"""The way to a service, one stage after the other, for the doctor: name, connection, certificate."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from urllib.parse import urlsplit

from lsp_server.faults import ServiceFault, distrusted
from lsp_server.network import Network, NetworkSettingsError

_STAGE_S = 5.0


async def trace(base_url: str, network: Network) -> list[str]:
    """A line for each stage with its milliseconds. Raises ServiceFault with a sentence at the first that fails."""
    parts = urlsplit(base_url)
    lines = []
    proxy = network.proxy_for(base_url)
    if proxy is not None:
        parts = urlsplit(proxy)
        lines.append(f"ok: a proxy is on the way: {parts.hostname}:{parts.port or _port(parts.scheme)}")
    host, port = parts.hostname or "", parts.port or _port(parts.scheme)
    began = time.perf_counter()
    address = await _address(host, port)
    lines.append(f"ok: {host} is {address} ({_ms(began)})")
    began = time.perf_counter()
    try:
        async with asyncio.timeout(_STAGE_S):
            _, writer = await asyncio.open_connection(address, port)
    except (OSError, TimeoutError) as error:
        if proxy is not None:
            text = f"the proxy {host}:{port} does not answer: check midfill.proxy and HTTPS_PROXY"
        else:
            text = f"no service answers at {base_url}: check midfill.endpoint, or start the service"
        raise ServiceFault(f"{text} ({type(error).__name__})", unreachable=True) from error
    try:
        lines.append(f"ok: connected to port {port} ({_ms(began)})")
        if parts.scheme == "https":
            began = time.perf_counter()
            lines.append(f"ok: {await _handshake(writer, base_url, host, network)} ({_ms(began)})")
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                await writer.wait_closed()
    return lines


async def _address(host: str, port: int) -> str:
    try:
        async with asyncio.timeout(_STAGE_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError) as error:
        raise ServiceFault(
            f"the name {host} has no address: check midfill.endpoint and DNS", unreachable=True
        ) from error
    return str(found[0][4][0])


async def _handshake(writer: asyncio.StreamWriter, base_url: str, host: str, network: Network) -> str:
    """What the certificate says."""
    try:
        async with asyncio.timeout(_STAGE_S):
            await writer.start_tls(network.trust(base_url), server_hostname=host)
    except NetworkSettingsError as error:
        raise ServiceFault(str(error)) from error
    except ssl.SSLError as error:
        raise distrusted(base_url, error) from error
    except (OSError, TimeoutError) as error:
        raise ServiceFault(f"{host} does not speak TLS on this port: is it http?", unreachable=True) from error
    certificate = writer.get_extra_info("peercert") or {}
    issuer = {name: value for pair in certificate.get("issuer", ()) for name, value in pair}
    by = issuer.get("organizationName") or issuer.get("commonName") or "an unnamed authority"
    return f"its certificate is trusted: from {by}, valid until {certificate.get('notAfter', 'some time')}"


def _port(scheme: str) -> int:
    return 443 if scheme == "https" else 80


def _ms(began: float) -> str:
    return f"{(time.perf_counter() - began) * 1000:.0f} ms"
