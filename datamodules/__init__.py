"""Data: one data set or one data format per file."""
