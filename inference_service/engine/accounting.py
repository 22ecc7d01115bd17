"""Where the engine's time and tokens went, for its gauges. No torch."""

from __future__ import annotations

from typing import Literal

Stage = Literal["waiting", "prefill", "decode"]
STAGES: tuple[Stage, ...] = ("waiting", "prefill", "decode")
_FADING = 0.95  # a step weighs half after 13 more


class Accounting:
    """Totals since the start. A pair NAME_sum, NAME_count is a Prometheus summary."""

    def __init__(self, bandwidth: float) -> None:
        """`bandwidth`: bytes that the device's memory delivers a second; 0 when that is not known."""
        self._bandwidth = bandwidth
        self._host_seconds = self._device_seconds = 0.0
        self._steps = 0
        self._read, self._reading = 0.0, 0.0
        self._wasted = 0
        self._aborted = dict.fromkeys(STAGES, 0)
        self._accepted = self._guesses = 0

    def step(self, host: float, device: float, read: int) -> None:
        """One step took `host` seconds of scheduling and text, `device` seconds of computing, `read` bytes of weights
        and cache."""
        self._steps += 1
        self._host_seconds += host
        self._device_seconds += device
        self._read = _FADING * self._read + read
        self._reading = _FADING * self._reading + device

    def aborted(self, stage: Stage, tokens: int) -> None:
        """Nobody waits for a completion any more; `tokens` were computed for it."""
        self._aborted[stage] += 1
        self._wasted += tokens

    def wasted(self, tokens: int) -> None:
        self._wasted += tokens

    def verified(self, right: int) -> None:
        """The first `right` tokens of a guess came true."""
        self._guesses += 1
        self._accepted += right

    def values(self) -> dict[str, float]:
        known = self._bandwidth > 0 and self._reading > 0
        return {
            "step_host_seconds_sum": self._host_seconds,
            "step_host_seconds_count": self._steps,
            "step_device_seconds_sum": self._device_seconds,
            "step_device_seconds_count": self._steps,
            "mbu_ratio": self._read / self._reading / self._bandwidth if known else 0.0,
            "spec_accepted_length_sum": self._accepted,
            "spec_accepted_length_count": self._guesses,
            "wasted_tokens_total": self._wasted,
            **{f'aborted_total{{stage="{stage}"}}': count for stage, count in self._aborted.items()},
        }
