"""Samples beside data: metrics and their arithmetic, a file for each topic."""
