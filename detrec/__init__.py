"""Record and replay for deterministic LLM inference: find where the first bit changed, and why."""

__version__ = "0.1.0"
