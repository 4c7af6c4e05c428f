"""Everything an evaluation makes of the logits of a model."""
