"""What the commands do: from a checked configuration to data, model, task, loop and result."""
