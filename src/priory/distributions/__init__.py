"""Pyro distributions that are fast, exact in the tails, or not in the library."""
