"""Completions that an OpenAI-compatible server computes: vLLM, llama.cpp, SGLang, Ollama, or another Midfill."""

from inference_service.backends.upstream.backend import UpstreamBackend

__all__ = ["UpstreamBackend"]
