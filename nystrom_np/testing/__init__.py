"""For people who port the model: random small inputs, and comparisons of their implementation with this one.

The strategies are Hypothesis's, which draws cases and shrinks a failing one to the smallest it can find.
Hypothesis is imported when first used (``pip install hypothesis``).
"""

from nystrom_np.testing.attention import compare_nystrom_attention
from nystrom_np.testing.cases import AttentionCase, attention_cases, configs, model_inputs
from nystrom_np.testing.drawing import LAYOUTS, arrays, masks, row_stochastic
from nystrom_np.testing.mismatch import Mismatch
from nystrom_np.testing.models import compare_model
from nystrom_np.testing.parameters import random_model
from nystrom_np.testing.search import Exercised, NotExercised

__all__ = [
    "AttentionCase",
    "Exercised",
    "LAYOUTS",
    "Mismatch",
    "NotExercised",
    "arrays",
    "attention_cases",
    "compare_model",
    "compare_nystrom_attention",
    "configs",
    "masks",
    "model_inputs",
    "random_model",
    "row_stochastic",
]
