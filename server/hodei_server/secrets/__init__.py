"""Jobs' secrets in the server.

keys     the keys that values are kept under
sources  what of the server's own a job may have
opening  puts them together at the server's start
jobs     takes values out of a job that is submitted, and gives them to the worker that runs it
"""
