"""The wire contract of Hodei: protocol buffers and the stubs made of them."""

__version__ = "0.1.0"
