"""One loss, one paper, one file."""
