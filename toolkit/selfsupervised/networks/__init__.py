"""Networks of self-supervised learning: heads on a backbone, and the masked autoencoder's decoder."""
