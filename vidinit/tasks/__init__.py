"""What is trained: a task maps a batch to named losses and owns its heads."""
