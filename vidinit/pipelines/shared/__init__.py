"""What several pipelines have in common."""
