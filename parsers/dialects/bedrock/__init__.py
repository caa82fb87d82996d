"""AWS Bedrock, as its servers speak: Converse for every model, InvokeModel for Anthropic's."""

from parsers.dialects.bedrock.converse import CONVERSE, Converse
from parsers.dialects.bedrock.invoke import InvokeAnthropic

__all__ = ["CONVERSE", "Converse", "InvokeAnthropic"]
