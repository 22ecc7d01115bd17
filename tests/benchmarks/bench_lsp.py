"""The language server's numbers: start, memory, and time per request while a file is being typed.

    python -m tests.benchmarks.bench_lsp [--file FILE] [--endpoint URL]

Prints a table and writes a result. Times are in milliseconds, memory in MB. "typed through" are
requests that were answered from the completion shown before, "asked" are those that went to the service. Without
--endpoint that is a local service of its own, which ends with the benchmark: the user's is left alone.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks import record
from tests.e2e.local_services import end_local_service
from tests.lsp_server.session import AUTOMATIC, Session

STARTS = 5
CHARACTERS = 300
LOCAL_READY_S = 180
UNSEEN = Path(__file__).with_name("unseen.py")


def resident_mb(session: Session) -> float:
    """Resident memory of the server process; 0 where /proc is missing."""
    status = Path(f"/proc/{session.process.pid}/status")
    return int(status.read_text().split("VmRSS:")[1].split()[0]) / 1024 if status.exists() else 0.0


def start(endpoint: str, home: Path) -> tuple[Session, float]:
    """An initialized server that keeps its state under `home`, and the milliseconds from its start to its answer."""
    began = time.perf_counter()
    session = Session.start(env={"XDG_STATE_HOME": str(home / "state")})
    session.initialize(endpoint=endpoint, requestTimeoutMs=30_000, debounceMs=0, minConfidence=0)
    return session, (time.perf_counter() - began) * 1000


def type_file(session: Session, path: Path) -> dict[str, list[float]]:
    """Type 300 characters into the middle of the file, asking after each as an editor does: times by kind."""
    text = path.read_text(encoding="utf-8").replace("\r\n", "\n")
    begin = text.rfind("\n", 0, max(0, (len(text) - CHARACTERS) // 2)) + 1
    # Whole lines, so that nothing stands right of the cursor.
    end = text.find("\n", begin + CHARACTERS)
    typed = text[begin:end]
    uri = path.resolve().as_uri()
    session.open(uri, text[:begin] + text[end:])
    line, character = text[:begin].count("\n"), 0
    times: dict[str, list[float]] = {"asked": [], "typed through": [], "nothing shown": []}
    seen: set[str] = set()
    for char in typed:
        session.insert(uri, line, character, char)
        # Positions count UTF-16 units.
        line, character = (line + 1, 0) if char == "\n" else (line, character + 1 + (ord(char) > 0xFFFF))
        began = time.perf_counter()
        items = session.complete(uri, line, character, AUTOMATIC)
        took = (time.perf_counter() - began) * 1000
        if not items:
            times["nothing shown"].append(took)
            continue
        completion_id = items[0]["command"]["arguments"][0]
        times["typed through" if completion_id in seen else "asked"].append(took)
        seen.add(completion_id)
    return times


def summary(times: list[float]) -> dict[str, float]:
    """Count, median and 95th percentile."""
    if not times:
        return {"count": 0}
    ordered = sorted(times)
    p95 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    return {"count": len(times), "p50_ms": round(statistics.median(times), 1), "p95_ms": round(p95, 1)}


class NotReady(Exception):
    """What the language server said last."""


def measure(endpoint: str, file: Path, home: Path) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """The figures, and the times by kind that are among them."""
    initialize, memory = [], []
    for _ in range(STARTS):
        # An address where nobody listens: the start of a local service would be measured along.
        session, took = start("http://127.0.0.1:9", home)
        session.wait_notification("didChangeStatus")
        initialize.append(took)
        memory.append(resident_mb(session))
        session.close()

    session, _ = start(endpoint, home)
    with session:
        try:
            session.wait_notification(
                "didChangeStatus", lambda s: s["kind"] == "Normal" and not s["message"], LOCAL_READY_S
            )
        except TimeoutError:
            said = [s["message"] for s in session.notifications("didChangeStatus")]
            raise NotReady(said[-1] if said else "no status") from None
        times = type_file(session, file)
        after = resident_mb(session)
    result = {
        "initialize_ms": round(statistics.median(initialize)),
        "rss_mb": round(statistics.median(memory), 1),
        "rss_after_typing_mb": round(after, 1),
        "requests": {kind: summary(values) for kind, values in times.items()},
    }
    return result, times


def main() -> int:
    """Run the benchmark; exit status 1 if the local service did not get ready."""
    parser = record.parser(__doc__)
    parser.add_argument("--file", type=Path, default=UNSEEN, help="a source file of at least 300 characters")
    parser.add_argument("--endpoint", default="local", help='URL of a service, or "local"')
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as home:
        try:
            result, times = measure(options.endpoint, options.file, Path(home))
        except NotReady as error:
            print(f"not measured: the service did not get ready: {error}", file=sys.stderr)
            return 1
        finally:
            end_local_service(Path(home))
    print(f"start to initialize answer, median of {STARTS}: {result['initialize_ms']} ms")
    print(f"memory after initialize: {result['rss_mb']} MB, after typing: {result['rss_after_typing_mb']} MB")
    print(f"{'requests':<16}{'count':>7}{'p50 ms':>9}{'p95 ms':>9}")
    for kind, values in times.items():
        row = summary(values)
        print(f"{kind:<16}{row['count']:>7}{row.get('p50_ms', '-'):>9}{row.get('p95_ms', '-'):>9}")
    record.write("lsp", result, options.results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
