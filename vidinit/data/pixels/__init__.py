"""From decoded frames to what a model takes: crop, resize, augment, mix, normalize."""
