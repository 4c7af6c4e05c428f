"""The costs of a model: multiply-adds, throughput, memory."""
