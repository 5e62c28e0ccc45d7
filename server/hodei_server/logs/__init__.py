"""Logs as the server holds them: what is being written, what is kept, and cursors on both."""
