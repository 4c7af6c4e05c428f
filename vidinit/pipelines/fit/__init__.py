"""`vidinit fit`: from a folder of videos to a model, with all that is chosen said and recorded."""
