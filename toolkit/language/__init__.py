"""Language: tokenizers, networks and tasks over text."""
