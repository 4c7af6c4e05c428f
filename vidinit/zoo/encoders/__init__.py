"""Video encoders of Hugging Face's transformers: which there are, and their folders and files."""
