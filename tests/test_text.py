"""Documents: bags of words against a count by hand, folders, and Reuters where it is."""

from collections import Counter
from pathlib import Path
from unicodedata import normalize

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ae_jax import data
from ae_jax.data.text import commonest
from ae_jax.distributions import likelihoods

CORPORA = Path(__file__).parents[2] / "shared" / "data" / "nltk_data"
DOCUMENTS = {"a.txt": "Grain, grain and WHEAT!", "b.txt": "wheat exports to the east", "c.txt": "oil oil oil price"}


def write(folder, documents):
    for name, text in documents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_bags_are_probabilities_of_words_in_any_case():
    vocabulary = ("grain", "oil", "wheat")
    np.testing.assert_array_equal(data.counts(list(DOCUMENTS.values()), vocabulary), [[2, 0, 1], [0, 0, 1], [0, 3, 0]])
    np.testing.assert_allclose(data.bags([*DOCUMENTS.values(), "nothing known"], vocabulary).sum(1), [1, 1, 1, 0])


def test_a_folder_of_texts_has_its_vocabulary_from_train_alone(tmp_path):
    write(tmp_path, {f"train/{k}": v for k, v in DOCUMENTS.items()} | {"test/d.txt": "oil and unheard words"})
    dataset = data.load(tmp_path, words=3)
    words = Counter(w for text in DOCUMENTS.values() for w in text.lower().replace(",", "").replace("!", "").split())
    assert dataset.vocabulary == ("grain", "oil", "wheat")
    assert sorted(words, key=words.get)[-3:] == ["grain", "wheat", "oil"]
    assert dataset.train.x.shape == (3, 3)
    np.testing.assert_array_equal(dataset.test.x, [[0, 1, 0]])


def test_a_folder_without_splits_and_with_classes(tmp_path):
    write(tmp_path, {f"{topic}/{k}": v for topic in ("crops", "energy") for k, v in DOCUMENTS.items()})
    dataset = data.load(tmp_path, test_fraction=0.5)
    assert dataset.classes == ("crops", "energy")
    assert len(dataset.train.x) == len(dataset.test.x) == 3
    assert sorted([*dataset.train.y, *dataset.test.y]) == [0, 0, 0, 1, 1, 1]
    written = [(tmp_path / name).read_text() for name in dataset.test_names]
    np.testing.assert_array_equal(data.bags(written, dataset.vocabulary), dataset.test.x)


@pytest.mark.parametrize(
    ("documents", "told"),
    [
        ({"train/a.txt": "the of and", "test/b.txt": "oil"}, "stop words"),
        ({"train/a.txt": "word", "test/b.png": ""}, "no documents"),
    ],
)
def test_texts_that_cannot_be_used(tmp_path, documents, told):
    write(tmp_path, documents)
    with pytest.raises(data.DataError, match=told):
        data.texts(tmp_path)


def test_files_that_are_no_text_are_named_all_at_once(tmp_path):
    write(tmp_path, DOCUMENTS)
    bad = [tmp_path / f"bad{i}.txt" for i in range(12)]
    for i, file in enumerate(bad):
        file.write_bytes("caf\u00e9".encode("latin-1"))
        told = r"bad0\.txt cannot be read" if i == 0 else rf"^{i + 1} files cannot(.|\n)*bad1\.txt"
        with pytest.raises(data.DataError, match=told) as error:
            data.load(tmp_path)
    assert str(error.value).count("cannot be read as UTF-8 text") == 10
    assert str(error.value).endswith("and 2 more")


def test_empty_and_hidden_texts_are_left_out(tmp_path, capsys):
    write(tmp_path, {f"{topic}/{k}": v for topic in ("crops", "energy") for k, v in DOCUMENTS.items()})
    expected = data.load(tmp_path)
    write(tmp_path, {"crops/b0.txt": " \n", ".venv/lib/LICENSE.txt": "permission", "energy/.hidden.txt": "secret"})
    dataset = data.load(tmp_path)
    assert capsys.readouterr().err == f"left out: 1 empty text, {tmp_path / 'crops' / 'b0.txt'}\n"
    assert dataset.classes == ("crops", "energy")
    for now, before in zip(dataset, expected, strict=True):
        np.testing.assert_array_equal(now.x, before.x)
        np.testing.assert_array_equal(now.y, before.y)
    hidden = tmp_path / ".venv"  # whose own files are not hidden in it
    assert data.text_files(hidden) == [hidden / "lib" / "LICENSE.txt"]
    write(tmp_path / "none", {"a.txt": ""})
    with pytest.raises(data.DataError, match="no documents with words"):
        data.load(tmp_path / "none")


@pytest.mark.slow
@pytest.mark.skipif(not CORPORA.exists(), reason=f"{CORPORA} is not there")
def test_reuters_is_read_as_nltk_splits_it(monkeypatch):
    pytest.importorskip("nltk")
    import nltk

    monkeypatch.setattr(nltk.data, "path", [str(CORPORA), *nltk.data.path])
    dataset = data.load("reuters", words=500)
    assert dataset.train.x.shape == (7769, 500)
    assert dataset.test.x.shape == (3019, 500)
    assert dataset.factors is not None
    topics = dict(zip(dataset.factor_names, dataset.factors[0].sum(0), strict=True))
    assert (topics["earn"], topics["acq"], len(topics)) == (2877, 1650, 90)  # as ApteMod is known to have


def test_multinomial_is_the_log_probability_of_the_words():
    logits, x = jax.random.normal(jax.random.key(0), (2, 5)), jnp.array([[2.0, 0, 1, 0, 0], [0, 0, 0, 0, 0]])
    p = jax.nn.softmax(logits)
    words = [2 * np.log(p[0, 0]) + np.log(p[0, 2]), 0.0]
    np.testing.assert_allclose(-likelihoods.multinomial_nll(logits, x), words, rtol=1e-5, atol=1e-6)
    likelihood = likelihoods.likelihood("multinomial")
    np.testing.assert_allclose(likelihood.mean({}, logits), p, rtol=1e-6)


APART = "NFD"  # Unicode with every accent as a mark of its own, as macOS writes names and many PDFs their text


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ("café résumé über", normalize(APART, "café résumé über"), ["café", "résumé", "über"]),
        ("first flight", "\ufb01rst \ufb02ight", ["first", "flight"]),  # ligatures
        ("ABC 12", "\uff21\uff22\uff23 \uff11\uff12", ["abc", "12"]),  # full-width
        ("STRASSE", "straße", ["strasse"]),
        ("ΟΔΟΣ", "οδος", ["οδοσ"]),  # two forms of the last letter
        ("wonderful", "\ufeffwonder\u00adful", ["wonderful"]),  # a mark of byte order, a soft hyphen
        ("हिन्दी", "हिन्दी", ["हिन्दी"]),  # vowels are marks
        ("한국어", normalize(APART, "한국어"), ["한국어"]),
    ],
)
def test_a_word_is_the_same_in_every_form_of_unicode(one, other, words):
    assert data.tokens(one) == data.tokens(other) == words
    assert data.counts([one, other], words).tolist() == [[1] * len(words)] * 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("東京タワー", ["東京", "京タ", "タワ", "ワー"]),
        ("\uff76\uff9e\uff7d", ["ガス"]),  # half-width
        ("猫。犬", ["猫", "犬"]),  # a character alone
        ("Jaxで2024年", ["jax", "で", "2024", "年"]),
        ("กินปลา", ["กิน", "นป", "ปล", "ลา"]),  # a mark stays with its letter
        ("กา\u200bขา", ["กา", "ขา"]),  # words parted by a space of no width
    ],
)
def test_scripts_without_spaces_count_by_pairs_of_characters(text, words):
    assert data.tokens(text) == words


def test_english_words_are_those_of_scikit_learn():
    from sklearn.feature_extraction.text import CountVectorizer

    texts = [*DOCUMENTS.values(), "I can't re-read x 3 of 14 U.S. e-mails_2 (the 2nd time), naïve"]
    expected = CountVectorizer().fit(texts).get_feature_names_out().tolist()
    assert sorted({word for text in texts for word in data.tokens(text)}) == expected
    expected = CountVectorizer(stop_words="english").fit(texts).get_feature_names_out()
    assert commonest(texts, 100) == tuple(expected)


def test_a_vocabulary_that_somebody_wrote_is_folded_too():
    assert data.counts(["wheat wheat"], ["WHEAT", "oil", "wheat"]).tolist() == [[2, 0, 2]]


def test_a_folder_of_japanese_has_words(tmp_path):
    write(tmp_path, {f"{i}.txt": "猫が鳴く" for i in range(4)})
    dataset = data.load(tmp_path)
    assert dataset.vocabulary == ("が鳴", "猫が", "鳴く")
    np.testing.assert_allclose(dataset.train.x, 1 / 3, rtol=1e-6)
