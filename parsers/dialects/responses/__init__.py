"""OpenAI Responses, in both directions."""

from parsers.dialects.responses.dialect import RESPONSES, Responses, ResponsesExchange

__all__ = ["RESPONSES", "Responses", "ResponsesExchange"]
