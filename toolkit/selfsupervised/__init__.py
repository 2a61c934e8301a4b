"""Self-supervised learning: representations of images that nobody labelled."""
