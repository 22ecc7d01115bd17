"""Whether the computer runs on battery."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

_LINUX = Path("/sys/class/power_supply")
_ASKED_EVERY_S = 30.0


class Power:
    """Remembers the answer for half a minute and asks for the next one in the background.

    `clock` returns seconds; `executor` runs the question outside of the event loop.
    """

    def __init__(self, clock: Callable[[], float], ask: Callable[[], bool], executor: Executor) -> None:
        self._clock = clock
        self._ask = ask
        self._executor = executor
        self._asked_at = float("-inf")
        self._answer = False

    def on_battery(self) -> bool:
        """The last answer; False before there is one."""
        if self._clock() - self._asked_at >= _ASKED_EVERY_S:
            self._asked_at = self._clock()
            self._executor.submit(self._remember)
        return self._answer

    def _remember(self) -> None:
        self._answer = self._ask()


def on_battery(supplies: Path = _LINUX) -> bool:
    """Ask the system: Linux' sysfs (`supplies`), macOS' pmset, Windows' power status; False where none tells."""
    try:
        if sys.platform == "darwin":
            said = subprocess.run(["/usr/bin/pmset", "-g", "batt"], capture_output=True, text=True, timeout=5)
            return "'Battery Power'" in said.stdout
        if sys.platform == "win32":
            return _windows_on_battery()
        return _linux_on_battery(supplies)
    except (OSError, subprocess.SubprocessError):
        return False


def _linux_on_battery(supplies: Path) -> bool:
    discharging = False
    for supply in supplies.iterdir() if supplies.is_dir() else ():
        kind = _word(supply / "type")
        if kind in ("Mains", "USB") and _word(supply / "online") == "1":
            return False
        # A mouse or a headset has a battery, too: its scope is "Device".
        if kind == "Battery" and _word(supply / "scope") != "Device" and _word(supply / "status") == "Discharging":
            discharging = True
    return discharging


def _word(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _windows_on_battery() -> bool:
    import ctypes

    status = (ctypes.c_ubyte * 12)()  # SYSTEM_POWER_STATUS; its first byte is ACLineStatus
    windll = ctypes.windll  # type: ignore[attr-defined,unused-ignore]
    return bool(windll.kernel32.GetSystemPowerStatus(status)) and status[0] == 0
