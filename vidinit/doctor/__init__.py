"""`vidinit doctor`: tries the machine and its packages, and says how to repair what does not work.

It is for machines on which something does not import, so nothing heavy is imported here: all that
can fail, crash or hang (`trials`) runs in processes of its own with a deadline (`examine`).
"""
