"""Keeps the segments of logs: the contract and the stores that fulfil it."""
