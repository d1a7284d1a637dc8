"""What a training step is run by: players, guard, graphs, optimisers."""
