"""Fine-tuning on labeled videos, and probes of frozen trunks."""
