"""The way to a service through what companies put in between: own authorities, client certificates, proxies."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from lsp_server.client import CompletionRequest, ServiceClient
from lsp_server.faults import ServiceFault
from lsp_server.network import Network, NetworkSettingsError
from lsp_server.tokens import Tokens
from tests.lsp_server.scripted_service import Reply, ScriptedService
from tests.lsp_server.small_proxy import SmallProxy

REQUEST = CompletionRequest("x = ", "", "a.py", "python", "line", 8, "s")
NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine's environment says."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A company's own certificate authority, made here."""
    return trustme.CA()


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> str:
    """Its certificate as a file."""
    path = tmp_path / "company.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


def serve(authority: trustme.CA, *names: str, wants_client: bool = False) -> ScriptedService:
    """A service with a certificate for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    if wants_client:
        context.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(context)
    service = ScriptedService(tls=context)
    service.answer("over TLS")
    return service


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[ScriptedService]:
    service = serve(authority, "127.0.0.1", "code.company.example")
    yield service
    service.stop()


@pytest.fixture
def proxy(secure: ScriptedService, service: ScriptedService) -> Iterator[SmallProxy]:
    """A proxy that knows `code.company.example` (https) and `plain.company.example`."""
    service.answer("in the clear")
    running = SmallProxy({"code.company.example": secure.port, "plain.company.example": service.port})
    yield running
    running.stop()


async def complete(base_url: str, network: Network, tokens: Tokens | None = None) -> str:
    client = ServiceClient(base_url, tokens or Tokens.fixed(""), 5000, network)
    try:
        completion = await client.complete(REQUEST)
    finally:
        await client.close()
    assert completion is not None
    return completion.text


async def test_unknown_authority_is_refused_with_what_to_do(secure: ScriptedService) -> None:
    with pytest.raises(ServiceFault, match=r"is not trusted .* midfill\.tls\.caBundle"):
        await complete(secure.url, Network())
    assert secure.completions == []


async def test_ca_bundle(secure: ScriptedService, bundle: str) -> None:
    assert await complete(secure.url, Network(ca_bundle=bundle)) == "over TLS"


async def test_what_is_told_of_a_completion_goes_where_it_was_computed(secure: ScriptedService, bundle: str) -> None:
    client = ServiceClient(secure.url, Tokens.fixed(""), 5000, Network(ca_bundle=bundle))
    completion = await client.complete(REQUEST)
    assert completion is not None
    await client.post_event(completion.completion_id, "accepted", 3)
    await client.post_event("of-another-service", "accepted", 3)
    await client.close()
    told, other = (call.headers for call in secure.calls if call.path == "/v1/events")
    assert told["x-midfill-session"] == REQUEST.session and "x-midfill-session" not in other


async def test_a_connection_that_breaks_is_no_problem_of_tls(secure: ScriptedService, bundle: str) -> None:
    secure.default = Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 999\r\n\r\nda")
    with pytest.raises(ServiceFault, match=r"the connection to .* broke off"):
        await complete(secure.url, Network(ca_bundle=bundle))


async def test_a_machine_that_says_nothing_is_no_problem_of_tls(bundle: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ServiceFault, match="did not answer in time"):
        await complete(f"https://127.0.0.1:{silent.getsockname()[1]}", Network(ca_bundle=bundle))


async def test_authority_in_the_systems_store(
    secure: ScriptedService, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # how OpenSSL is told of another store; the machine's own is not ours to change
    monkeypatch.setenv("SSL_CERT_FILE", bundle)
    assert await complete(secure.url, Network()) == "over TLS"


async def test_certificate_for_another_name_is_refused(authority: trustme.CA, bundle: str) -> None:
    other = serve(authority, "elsewhere.example")
    with pytest.raises(ServiceFault, match="is not trusted"):
        await complete(other.url, Network(ca_bundle=bundle))
    other.stop()


async def test_client_certificate(authority: trustme.CA, bundle: str, tmp_path: Path) -> None:
    service = serve(authority, "127.0.0.1", wants_client=True)
    mine = authority.issue_cert("me@company.example")
    certificate, key, both = (str(tmp_path / name) for name in ("me.pem", "me.key", "both.pem"))
    mine.cert_chain_pems[0].write_to_path(certificate)
    mine.private_key_pem.write_to_path(key)
    mine.private_key_and_cert_chain_pem.write_to_path(both)
    with pytest.raises(ServiceFault):
        await complete(service.url, Network(ca_bundle=bundle))
    assert await complete(service.url, Network(bundle, certificate, key)) == "over TLS"
    assert await complete(service.url, Network(bundle, both)) == "over TLS"
    service.stop()


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (Network(ca_bundle="/no/such.pem"), "midfill.tls.caBundle: there is no file /no/such.pem"),
        (Network(ca_bundle="{text}"), "holds no PEM certificate"),
        (Network(client_cert="{text}"), "midfill.tls.clientCert"),
    ],
)
def test_useless_files_are_named(network: Network, says: str, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("hello\n")
    network = Network(*(value.replace("{text}", str(text)) for value in (network.ca_bundle, network.client_cert)))
    with pytest.raises(NetworkSettingsError, match=says):
        network.trust("https://code.company.example")


@pytest.mark.parametrize("by", ["setting", "environment"])
async def test_tls_through_a_proxy(proxy: SmallProxy, bundle: str, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if by == "environment":
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    network = Network(ca_bundle=bundle, proxy=proxy.url if by == "setting" else "")
    assert await complete("https://code.company.example", network) == "over TLS"
    assert proxy.seen == ["CONNECT code.company.example:443"]


async def test_plain_http_through_a_proxy(proxy: SmallProxy) -> None:
    assert await complete("http://plain.company.example", Network(proxy=proxy.url)) == "in the clear"
    assert proxy.seen == ["POST http://plain.company.example/v1/completions"]


async def test_no_proxy_and_this_machine_are_asked_directly(
    proxy: SmallProxy, secure: ScriptedService, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Network(ca_bundle=bundle, proxy=proxy.url)
    assert await complete(secure.url, network) == "over TLS"
    monkeypatch.setenv("NO_PROXY", "intern.example,.company.example")
    assert network.proxy_for("https://code.company.example") is None
    assert network.proxy_for("https://elsewhere.example") == proxy.url
    assert proxy.seen == []


async def test_a_proxy_that_refuses_is_named(proxy: SmallProxy, bundle: str) -> None:
    proxy.refuses = True
    with pytest.raises(ServiceFault, match="the proxy does not let us reach") as caught:
        await complete("https://code.company.example", Network(ca_bundle=bundle, proxy=proxy.url))
    assert caught.value.unreachable


async def test_socks_proxy_in_the_environment_does_not_stop_us(
    service: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    assert Network().proxy_for("https://code.company.example") is None
