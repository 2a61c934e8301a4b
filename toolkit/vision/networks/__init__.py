"""Networks that only vision uses."""
