"""Answers that were given before: the same request again, or one whose user went on to type what was answered."""

from inference_service.response_cache.backend import CachedBackend
from inference_service.response_cache.cache import ResponseCache

__all__ = ["CachedBackend", "ResponseCache"]
