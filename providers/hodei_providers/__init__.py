"""Starts, finds and removes workers: the contract and the providers that fulfil it."""
