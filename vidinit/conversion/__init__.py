"""From an image checkpoint to a video model: rules, the table of what went where, the proof."""
