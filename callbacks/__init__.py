"""What happens around training: one duty per file."""
