"""A run as a page to play with: its latent space, and its decoder as a short list of layers."""
