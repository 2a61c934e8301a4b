"""Tasks, networks, losses and metrics: what is trained."""
