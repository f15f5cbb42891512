"""Processes that tests start: children, commands on inputs changed at random, commands killed at random moments."""
