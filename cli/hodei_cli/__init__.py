"""The command `hodei`."""
