"""Optical flow in the place of RGB: estimated between neighboring frames, or read from files.

A video of N frames has N frames of flow, the k-th from frame k to frame k + 1; the last one is
that before it again. Values are pixels of the decoded frame, bounded and kept in 8 bits, so from
there on flow goes the way of RGB: crops and resizing leave the values as they are.
"""
