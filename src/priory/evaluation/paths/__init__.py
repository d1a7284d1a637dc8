"""Ways between data through a latent space, and how well they keep what they should."""
