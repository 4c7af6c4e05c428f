"""Class names as text: cleaned, put into templates, embedded by a text tower or read from a file.

Nothing here imports torch until embeddings are asked for.
"""

from .embeddings import text_embeddings
from .tables import save_embeddings
from .templates import TEMPLATES, clean, prompts

__all__ = ["TEMPLATES", "clean", "prompts", "save_embeddings", "text_embeddings"]
