"""The training loop, its state on disk, evaluation and prediction."""
