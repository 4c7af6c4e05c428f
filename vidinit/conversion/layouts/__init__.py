"""Public layouts of video checkpoints: how other code bases name our tensors.

A file here holds all that is known of a code base's checkpoints, as one or more tables
(`scheme.Scheme`): how they are recognized, its names of our tensors, their shapes and columns, its
pixel statistics, and which models it can hold. `read_write` uses them both ways.
"""

LAYOUTS: dict[str, str] = {
    "torchvision": "torchvision",
    "vmz": "vmz",
    "kylemin": "kylemin",
    "piergiaj": "piergiaj",
    "pytorchvideo": "pytorchvideo",
    "pyslowfast": "pyslowfast",
    "mmaction": "mmaction",
    "sts-image": "sts_image",
    "timesformer": "timesformer",
    "transformers": "transformers",
    "dist": "dist",
    "side4video": "side4video",
    "st-adapter": "st_adapter",
    "aim": "aim",
    "zeroi2v": "zeroi2v",
    "vjepa2-probe": "vjepa2_probe",
    "vjepa2-probe-transformers": "vjepa2_probe",
}
"""The layouts, which ``--layout`` takes, and the file of each, in the order they are tried."""

IMAGES = ("timm", "torchvision", "openclip", "transformers")
"""Layouts of image networks, which ``--layout`` of `convert` takes, too."""
