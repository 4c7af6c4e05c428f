"""Changes that any model of the zoo takes: frozen, fused, recomputed, with dropped paths."""
