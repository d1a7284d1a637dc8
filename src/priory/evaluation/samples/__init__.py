"""Comparing two sets of samples: pure functions."""
