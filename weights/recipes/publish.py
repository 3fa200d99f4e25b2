"""Writes a trained model as a folder of ``weights/``, with the reference's outputs for held-out inputs::

    python -m weights.recipes.publish --data FOLDER --model TRAINED HEAD

It runs in the reference's own environment, from the root of the repository.
"""

from __future__ import annotations
