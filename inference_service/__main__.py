"""`midfill-serve`: one process, one model, one HTTP listener."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from inference_service import commands
from inference_service import settings as settings_module
from inference_service.commands import COMMANDS
from inference_service.settings import Settings, SettingsError, without_password

if TYPE_CHECKING:
    from fastapi import FastAPI

    from inference_service.api.grpc.server import GrpcServer
    from inference_service.backends.base import Backend


def main(argv: list[str] | None = None) -> int:
    """Run until SIGTERM, SIGINT or, where asked for, the end of stdin.

    With the name of a command (`keys`, `database`, …) first, run that instead.
    Returns the exit code: 0 after a graceful end, 1 when the service cannot run here, 2 for bad settings.
    """
    arguments = sys.argv[1:] if argv is None else argv
    try:
        if arguments and arguments[0] in COMMANDS:
            _tell_unread()
            return commands.run(arguments, os.environ)
        return _run(arguments)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("", "inference_service"):
            raise
        return _fail(f'{error.name} is not installed: pip install "midfill[serve]"', 1)


def _run(arguments: list[str]) -> int:
    """Serve; the exit code."""
    try:
        settings = settings_module.load(arguments, os.environ)
    except SettingsError as error:
        _tell_unread()  # it may be what is missed
        return _fail(str(error), 2)
    try:
        # Before the model: an address that is taken should be told at once. It listens when it can answer, so that
        # until then a load balancer is refused and goes on to the next replica.
        listener = _bind(settings)
    except OSError as error:
        return _fail(_listen_problem(settings, error), 1)

    # Late, because they bring torch: --help and the errors above should not wait for it.
    from inference_service import logs
    from inference_service.app import create_app
    from inference_service.backends.local import LocalBackend
    from inference_service.engine.cpu_kernels import TUNING_THREAD

    def make(model: Path | str) -> Backend:
        return LocalBackend(str(model), device=settings.device, threads=settings.threads, kv_cache=settings.kv_cache)

    logs.configure(settings.log_format)
    for problem in settings_module.unread(os.environ):
        logs.log("variable ignored", level=logging.WARNING, problem=problem)
    try:
        first = _upstream(settings) if settings.upstream else make(settings.model)
        # clients name the model, and its versions come and go
        name = settings.upstream_model if settings.upstream else Path(settings.model).resolve().name
        app = create_app(settings, first, make, name if settings.models else "")
        start_grpc = _grpc(settings, app)
    except SettingsError as error:
        return _fail(str(error), 2)
    except (OSError, ValueError) as error:
        return _fail(_load_problem(settings, error), 1)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        code = runner.run(_serve(settings, app, listener, start_grpc))
    gc.freeze()  # the end of the interpreter would look through all of torch for garbage: a second or more
    if any(thread.name == TUNING_THREAD for thread in threading.enumerate()):
        _leave(code)  # nothing stops a compiler, and the interpreter's end would take its memory from under it
    return code


def _tell_unread() -> None:
    for problem in settings_module.unread(os.environ):
        print(f"midfill-serve: warning: {problem}", file=sys.stderr, flush=True)


def _leave(code: int) -> NoReturn:
    """End the process as it is, but for what was not written yet."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _upstream(settings: Settings) -> Backend:
    from inference_service.backends.upstream import UpstreamBackend

    key = os.environ.get("MIDFILL_UPSTREAM_KEY", "")
    if settings.upstream_key_file:
        try:
            key = Path(settings.upstream_key_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"cannot read upstream_key_file {settings.upstream_key_file}: {error}") from None
    return UpstreamBackend(settings.upstream, settings.upstream_model, key, settings.upstream_fim)


async def _serve(
    settings: Settings, app: FastAPI, listener: socket.socket, start_grpc: Callable[[], GrpcServer] | None
) -> int:
    from inference_service import http_server
    from inference_service.watchdog import Watchdog

    service = app.state.service
    server = http_server.server(app, max_connections=settings.max_connections)
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def exit_now() -> None:
        server.should_exit = True

    async def end_at_once() -> None:
        await service.end_runs()
        exit_now()

    def shut_down() -> None:
        # The first call drains; a second one means that somebody does not want to wait.
        tasks.add(loop.create_task(end_at_once() if tasks else service.drain(exit_now)))

    def shut_down_from_outside() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: it is over already
            loop.call_soon_threadsafe(shut_down)

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        shut_down_from_outside()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    if settings.exit_on_stdin_eof:
        threading.Thread(target=_wait_for_stdin_eof, args=(shut_down_from_outside,), daemon=True).start()

    async def announce() -> None:
        await service.loaded.wait()
        if service.load_error:
            exit_now()
            return
        # What is loaded by now stays: looking through it for garbage again and again would hold everybody up, with
        # torch's quarter of a million objects for 0.15 s at a time.
        gc.collect()
        gc.freeze()
        while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
            await asyncio.sleep(0.01)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        address = f"http://{host}:{listener_port}"
        model = service.backend.model.name
        print(f"midfill-serve: ready on {address} (model {model}, device {service.device})", flush=True)

    listener_port = listener.getsockname()[1]
    # /livez fails at the first limit; whoever watches it has as long again before the process ends itself
    watchdog = Watchdog(service.stalled_s, 2 * settings.watchdog_s)
    beside = [asyncio.create_task(announce()), asyncio.create_task(watchdog.run())]
    grpc_server = start_grpc() if start_grpc else None
    try:
        if grpc_server:
            await grpc_server.start()
    except OSError as error:
        listener.close()
        return _fail(str(error), 1)
    try:
        await server.serve(sockets=[listener])
    except OSError as error:
        if server.started:
            raise
        return _fail(_listen_problem(settings, error), 1)  # another one that was bound here listened first
    finally:
        if grpc_server:
            await grpc_server.stop()
        for task in beside:
            task.cancel()
    if service.load_error:
        return _fail(_load_problem(settings, service.load_error), 1)
    return 0


def _grpc(settings: Settings, app: FastAPI) -> Callable[[], GrpcServer] | None:
    """What makes the gRPC server once the event loop runs; None where it is off. Raises SettingsError."""
    if not settings.grpc_port:
        return None
    try:
        from inference_service.api.grpc.server import GrpcServer
    except ImportError:
        raise SettingsError("grpc_port needs the extra grpc: pip install 'midfill[grpc]'") from None
    return lambda: GrpcServer(app, settings)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not for Windows
        return None
    return uvloop.new_event_loop


def _bind(settings: Settings) -> socket.socket:
    found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
    family, kind, protocol, _, address = found[0]
    # asyncio sets TCP_NODELAY only where the listener names its protocol, which socket.create_server does not
    # do; without it each answer waits some 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(family, kind, protocol or socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # elsewhere it would let two processes share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _listen_problem(settings: Settings, error: OSError) -> str:
    where = f"{settings.host}:{settings.port}"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is already in use; choose another port with --port, or --port 0 for any free one"
    if error.errno == errno.EACCES:
        return f"no permission to listen on {where}; choose a port above 1023 with --port"
    return f"cannot listen on {where}: {error.strerror or error}"


def _load_problem(settings: Settings, error: Exception) -> str:
    what = (
        f"the upstream {without_password(settings.upstream)!r}"
        if settings.upstream
        else f"the model {settings.model!r}"
    )
    return f"cannot serve {what}: {error or type(error).__name__}"


def _wait_for_stdin_eof(then: Callable[[], None]) -> None:
    # os.read and not sys.stdin: a thread that holds sys.stdin's lock makes the interpreter abort at exit.
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    then()


def _fail(message: str, code: int) -> int:
    print(f"midfill-serve: {message}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
