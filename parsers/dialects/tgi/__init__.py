"""TGI's own protocol, in both directions."""

from parsers.dialects.tgi.dialect import TGI, TGI_COMPAT, TgiDialect

__all__ = ["TGI", "TGI_COMPAT", "TgiDialect"]
