"""Losses: one paper, one file, a pure function and a thin module."""
