"""What a student learns from its teachers, an objective a file; `base` has the interface."""
