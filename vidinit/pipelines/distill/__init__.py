"""DistInit: a video student learns from image teachers on unlabeled videos."""
