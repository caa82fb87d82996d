"""penstock: the streaming proxy for models you host yourself."""

__version__ = "0.1.0"
