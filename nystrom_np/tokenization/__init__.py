"""Text to ids and back: a thin wrapper over the ``tokenizers`` library, called as transformers' are."""

from nystrom_np.tokenization.encoding import BatchEncoding
from nystrom_np.tokenization.texts import whole_characters
from nystrom_np.tokenization.tokenizer import NystromformerTokenizer

AlbertTokenizerFast = NystromformerTokenizer  # its name in transformers, whose Nyströmformer has ALBERT's tokenizer

__all__ = ["AlbertTokenizerFast", "BatchEncoding", "NystromformerTokenizer", "whole_characters"]
