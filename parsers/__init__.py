"""Formats of streaming model APIs: bytes in, values out, and back. Opens and awaits nothing."""
