"""The tree stays readable: a file has one reason to exist, and says so where it needs more than 400 lines for it."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINES, TOP = 400, 15
GENERATED = ("_pb2.py", "_pb2.pyi")


def test_no_source_file_is_over_400_lines_without_a_reason_on_top():
    names = subprocess.run(
        ["git", "ls-files", "*.py", "*.ts", "*.lua", "*.sh"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert len(names) > 300
    long = []
    for name in names:
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines() if (ROOT / name).exists() else []
        if len(lines) > LINES and not name.endswith(GENERATED) and "Over 400 lines" not in "\n".join(lines[:TOP]):
            long.append(f"{name}: {len(lines)} lines")
    assert not long, "split them, or say on top 'Over 400 lines because …'"
