"""Text to ids and back: a thin wrapper over the ``tokenizers`` library, called as transformers' are."""

from nystrom_np.tokenization.encoding import BatchEncoding
from nystrom_np.tokenization.texts import whole_characters
from nystrom_np.tokenization.tokenizer import NystromformerTokenizer

__all__ = ["BatchEncoding", "NystromformerTokenizer", "whole_characters"]
