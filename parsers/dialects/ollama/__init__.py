"""Ollama's own protocol, `/api/chat` and `/api/generate`, as its server speaks it."""

from parsers.dialects.ollama.dialect import OLLAMA, OLLAMA_PROMPTS, Ollama, OllamaPrompts

__all__ = ["OLLAMA", "OLLAMA_PROMPTS", "Ollama", "OllamaPrompts"]
