"""`vidinit doctor`: what of this machine and its packages works, tried and not guessed.

It is for machines on which something does not import, so nothing heavy is imported here: what can
fail, crash or hang is tried in processes of its own (`inside`), each with a deadline (`trials`).
"""
