"""What a model costs: multiply-adds, throughput, memory."""
