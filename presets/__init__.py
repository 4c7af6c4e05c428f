"""Shipped recipes, one YAML file each: `<command>/<target>_<data>.yaml`."""
