"""A folder for each pipeline: its settings, its task, its run and its part of the report."""
