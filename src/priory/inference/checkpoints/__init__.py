"""The run folder: checkpoints, their verification, resumption, locks and signals."""
