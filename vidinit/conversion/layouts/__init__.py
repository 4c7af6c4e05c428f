"""Public layouts of video checkpoints: how other code bases name our tensors.

`layout` holds the functions; the other modules hold one table per code base.
"""
