"""Generated stubs of `hodei.v1`; `python proto/generate.py` makes them."""
