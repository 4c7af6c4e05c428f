"""`python -m vidinit`, for `torchrun -m vidinit` and `accelerate launch -m vidinit` too."""

from .commands import app

if __name__ == "__main__":
    app(prog_name="vidinit")
