"""Metrics: functions of draws with declared needs, a file for each topic."""
