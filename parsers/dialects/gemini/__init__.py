"""Google's Gemini, as its servers speak, on the Gemini API and on Vertex alike."""

from parsers.dialects.gemini.dialect import GEMINI, Gemini

__all__ = ["GEMINI", "Gemini"]
