"""What latents hold: the metrics, and their arithmetic as pure functions of posterior draws."""
