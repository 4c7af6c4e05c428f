"""The training loop, its optimizer, its state on disk, and its terminal."""
