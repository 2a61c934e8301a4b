"""Measurements behind the claims of docs/results.md."""
