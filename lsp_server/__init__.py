"""Midfill's language server: inline code completion over LSP 3.18, on stdio."""

# Also in pyproject.toml, which a test compares: asking importlib.metadata costs 50 ms of the start.
__version__ = "0.1.0"
