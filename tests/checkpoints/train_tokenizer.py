"""Trains ``tests/checkpoints/tokenizer``, an ALBERT-style tokenizer: done once, and its files are an input since.

Training a Unigram vocabulary gives another file every time, so this records how the one here came about:
tokenizers 0.15.2, whose files newer versions read too, on the valid and test splits of WikiText-2
(CC BY-SA 3.0) and the sentences below, which make whole words of what the examples speak of::

    python tests/checkpoints/train_tokenizer.py FOLDER wikitext-2/valid.txt wikitext-2/test.txt
"""

import json
import re
import sys
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

VOCABULARY = 1024
SPECIAL = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
EXAMPLES = [
    "The capital of France is Paris.",
    "Paris is the capital of France.",
    "Brussels is the capital of Belgium.",
    "HuggingFace is a company based in Paris and New York",
    "Hello, my dog is cute",
    "Who was Jim Henson?",
    "Jim Henson was a nice puppet",
    "In Italy, pizza served in formal settings, such as at a restaurant, is presented unsliced.",
    "It is eaten with a fork and a knife.",
    "It is eaten while held in the hand.",
]


def plain(line: str) -> str:
    """Undo WikiText's spacing: ``1 @,@ 000 ( sic ) .`` becomes ``1,000 (sic).``"""
    line = line.strip().replace("<unk>", "")
    for joint in "-,.":
        line = line.replace(f" @{joint}@ ", joint)
    line = re.sub(r" ([.,;:!?%)\]])", r"\1", line)
    line = re.sub(r"([(\[]) ", r"\1", line)
    line = re.sub(r" ('s|'t|'re|'ve|'ll|'d|'m)\b", r"\1", line).replace(" n't", "n't")
    line = re.sub(r'" ([^"]*) "', r'"\1"', line)
    return re.sub(r"\s+", " ", line)


def train(text: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    quotes = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    letters = [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    tokenizer.normalizer = normalizers.Sequence([*quotes, *letters, normalizers.Replace(Regex(r"\s+"), " ")])
    # "first": what follows a special token is a new word only where the text has a space, as in "is [MASK]."
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(add_prefix_space=True, prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(add_prefix_space=True)
    trainer = trainers.UnigramTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        unk_token="<unk>",
        max_piece_length=16,
        show_progress=False,
    )
    tokenizer.train_from_iterator(text, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def compact(tokenizer: Tokenizer) -> str:
    """Return the file: [MASK] takes the space before it with it, and scores are rounded."""
    told = json.loads(tokenizer.to_str())
    for token in told["added_tokens"]:
        token["lstrip"] = token["content"] == "[MASK]"
    told["model"]["vocab"] = [[piece, round(score, 6)] for piece, score in told["model"]["vocab"]]
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")) + "\n"


if __name__ == "__main__":
    folder, *files = map(Path, sys.argv[1:])
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    sentences = [plain(line) for line in lines if not line.strip().startswith("=")]
    (folder / "tokenizer.json").write_text(compact(train(sentences + EXAMPLES * 60)), encoding="utf-8")
