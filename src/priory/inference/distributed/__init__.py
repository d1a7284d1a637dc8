"""Several processes as one: ranks, their share of the noise and of the batch."""
