"""What latents hold: pure functions of posterior draws."""
