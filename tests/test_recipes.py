"""The training recipes' data: what is learnt from is clean, what is held out stays apart, what is asked is answered."""

import random

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from weights.recipes import evaluate, inputs, stories, text


@pytest.mark.parametrize(
    ("spaced", "expected"),
    [
        ("1 @,@ 000 ( sic ) and 2 @.@ 5 , they said .", "1,000 (sic) and 2.5, they said."),
        ("it 's a red @-@ brown one , is n't it ?", "it's a red-brown one, isn't it?"),
        ('the " blue " one', 'the "blue" one'),
    ],
)
def test_plain_text_has_no_traces_of_tokenisation(spaced, expected):
    assert text.plain(spaced) == expected


def test_joined_words_are_found_again_at_their_places():
    words = ["I", "do", "n't", "like", "(", "really", ")", "Mary", "'s", "$", "5", "hat", "."]
    sentence, places = text.join(words)
    assert sentence == "I don't like (really) Mary's $5 hat."
    assert [sentence[start:stop] for start, stop in places] == words


def test_glosses_lose_their_markup(tmp_path):
    (tmp_path / "data.noun").write_text(
        "  1 the licence\n"
        '00001740 03 n 01 dog 0 000 | a domestic animal (see `wolf\'); "the dog barked all night"; "a dog"\n'
        '00001741 03 n 01 ode 0 000 | a long poem; "an ode to joy at last"- F. Schiller  \n',
        encoding="latin-1",
    )
    for part in ("verb", "adj", "adv"):
        (tmp_path / f"data.{part}").write_text("  1 the licence\n")
    assert list(text.glosses(tmp_path)) == [
        ["a domestic animal (see 'wolf').", "the dog barked all night."],
        ["a long poem.", "an ode to joy at last."],
    ]


def test_articles_have_no_headings_and_no_unknown_words(tmp_path):
    file = tmp_path / "valid.txt"
    file.write_text(
        " \n = One = \n \n A first sentence . A <unk> sentence . \n = = Part = = \n More @-@ text here . \n"
        " = Two = \n The end . \n"
    )
    assert list(text.articles(file)) == [[], ["A first sentence.", "More-text here."], ["The end."]]


def test_held_out_documents_are_apart_and_the_same_every_time():
    documents = text.without_duplicates([[f"one, {i % 70}.", f"One {i % 70}!"] for i in range(200)])
    assert documents == [[f"one, {i}."] for i in range(70)]
    learnt, held_out = text.split(documents, seed=0)
    assert (learnt, held_out) == text.split(documents, seed=0) != text.split(documents, seed=1)
    assert len(held_out) == round(text.HELD_OUT * 70)
    assert sorted(learnt + held_out) == sorted(documents)


def test_stories_answer_their_questions():
    told = stories.stories(400, seed=3)
    assert told == stories.stories(400, seed=3)
    assert len({(one.story, one.question) for one in told}) == 400
    for one in told:
        assert one.story[one.start :].startswith(one.answer)
        assert one.answer not in one.others
        assert len(set(one.others)) == 3
        assert one.answer == answered_by_reading(one)


def answered_by_reading(one):
    """Follow the story from its beginning, as a reader would."""
    place, last, holder = {}, {}, {}
    for sentence in one.story.rstrip(".").split(". "):
        name, what = sentence.split()[0], sentence.split()[-1]
        if what in stories.THINGS:
            last[name], holder[what] = what, name
        else:
            place[name] = what
    words = one.question.rstrip("?").split()
    if words[0] == "Where":
        return place[words[-1]]
    return last[words[2]] if words[0] == "What" else holder[words[-1]]


@pytest.fixture
def tokenizer():
    """One piece a letter, so that places are easily counted."""
    letters = sorted(set("▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,?'"))
    special = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
    made = Tokenizer(models.Unigram([(piece, -1.0) for piece in [*special, *letters]], unk_id=1))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    made.enable_truncation(inputs.LENGTH)
    made.enable_padding(length=inputs.LENGTH, pad_id=0, pad_token="<pad>")
    return made


def test_windows_hold_every_sentence_once_in_64_tokens():
    documents = [[[10 + i] * (i % 20 + 1), [500 + i] * 3] for i in range(60)]
    rows = inputs.windows(documents, random.Random(0))
    assert {len(row) for row in rows} == {inputs.LENGTH}
    assert all(row[0] == inputs.CLS and row.count(inputs.SEP) == 1 for row in rows)
    found = sorted(piece for row in rows for piece in row if piece > inputs.MASK)
    assert found == sorted(piece for document in documents for sentence in document for piece in sentence)
    assert len({row.index(inputs.SEP) for row in rows}) > 5  # some end early


def test_masked_pieces_are_hidden_and_labelled():
    ids = np.full((50, 64), 7)
    ids[:, 0], ids[:, 40], ids[:, 41:] = inputs.CLS, inputs.SEP, inputs.PAD
    made = inputs.masked(ids, np.random.default_rng(0))
    hidden = made["input_ids"] == inputs.MASK
    np.testing.assert_array_equal(made["labels"], np.where(hidden, 7, inputs.IGNORED))
    np.testing.assert_array_equal(np.where(hidden, 7, made["input_ids"]), ids)
    np.testing.assert_array_equal(made["attention_mask"], ids != 0)
    assert not hidden[:, [0, 40, 50]].any()
    assert 0.12 < hidden[:, 1:40].mean() < 0.18


def test_every_word_has_a_tag_at_its_first_piece(tmp_path, tokenizer):
    folder = tmp_path / "ud-english-ewt"
    folder.mkdir()
    words = [("She", "PRON"), ("ca", "AUX"), ("n't", "PART"), ("go", "VERB"), (".", "PUNCT")]
    long = [(f"word{chr(97 + i)}", "NOUN") for i in range(26)]
    (folder / "test.tsv").write_text(
        "\n\n".join("\n".join(f"{word}\t{tag}" for word, tag in one) for one in (words, long)) + "\n"
    )
    arrays = inputs.token_classification(tokenizer, tmp_path, "test")
    tagged = arrays["labels"] != inputs.IGNORED
    assert tagged.sum() == 31
    assert len(arrays["labels"]) == 5  # the long sentence is cut into four
    assert [inputs.TAGS[tag] for tag in arrays["labels"][0][tagged[0]]] == [tag for _, tag in words]
    pieces = [tokenizer.id_to_token(i) for i in arrays["input_ids"][0][tagged[0]]]
    assert pieces == ["▁", "▁", "n", "▁", "."]


def test_answers_are_found_among_the_pieces(tokenizer):
    one = stories.Story("Mary ran to the park.", "Where is Mary?", "park", 16, ("hall", "den", "shed"))
    arrays = inputs.question_answering(tokenizer, [one])
    start, end = arrays["start_positions"][0], arrays["end_positions"][0]
    assert "".join(tokenizer.id_to_token(i) for i in arrays["input_ids"][0, start : end + 1]).strip("▁") == "park"
    choices = inputs.multiple_choice(tokenizer, [one] * 30)
    assert choices["input_ids"].shape == (30, 4, 64)
    assert len(set(choices["labels"].tolist())) == 4
    for row, label in zip(choices["input_ids"], choices["labels"], strict=True):
        second = row[label][choices["token_type_ids"][0, label] == 1]
        assert "".join(map(tokenizer.id_to_token, second)).strip("▁").startswith("park")


def test_the_likeliest_span_lies_within_the_story():
    batch = {"token_type_ids": np.array([[0, 0, 1, 1, 1, 0]]), "attention_mask": np.array([[1, 1, 1, 1, 1, 0]])}
    batch = {name: np.pad(array, ((0, 0), (0, 58))) for name, array in batch.items()}
    start = np.zeros((1, 64)) + np.eye(64)[1] * 9 + np.eye(64)[3] * 2
    end = np.zeros((1, 64)) + np.eye(64)[2] * 3 + np.eye(64)[4] * 2 + np.eye(64)[40] * 9
    assert evaluate.best_span({"start_logits": start, "end_logits": end}, batch).tolist() == [[3, 4]]


def test_scores_count_what_is_right():
    arrays = {"labels": np.array([[-100, 4, 9], [2, -100, -100]])}
    top = np.array([[4, 1, 2, 3, 5], [1, 2, 3, 9, 5], [1, 3, 4, 5, 6]])
    assert evaluate.piece_accuracy(top, arrays) == {
        "top-1": pytest.approx(1 / 3),
        "top-5": pytest.approx(2 / 3),
        "pieces": 3,
    }
    assert evaluate.word_accuracy(np.array([4, 1, 2]), arrays)["accuracy"] == pytest.approx(2 / 3)
    answers = {"input_ids": np.array([[5, 6, 7, 6]]), "start_positions": np.array([1]), "end_positions": np.array([1])}
    assert evaluate.exact_match(np.array([[3, 3]]), answers)["exact match"] == 1
    assert evaluate.exact_match(np.array([[2, 3]]), answers)["exact match"] == 0
