"""Why a roll-out does not go on; every message is a sentence for the operator."""

from __future__ import annotations


class UnknownVersion(LookupError):
    """There is no such version."""


class Conflict(RuntimeError):
    """It does not fit what is going on now, a second activation for one."""


class ModelRefused(ValueError):
    """The version is damaged, or failed its self-test."""


class RolloutFault(RuntimeError):
    """The machine or the storage is in the way (disk, memory, network): it may work later."""
