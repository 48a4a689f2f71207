"""Documents as bags of words: folders of text files, and Reuters-21578.

Salton's bag of words with the normalisation of Hinton & Salakhutdinov (2006): a document is the probabilities of its
words, among the commonest words of the training set, for a multinomial likelihood.

All Unicode forms of a word are one word, see `folded`. In scripts without spaces between words, words are pairs of
characters, see `tokens`.
"""

import itertools
import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import warn
from .dataset import TEST_FRACTION, DataError, Dataset, check_sizes, expanded, from_parts, make_batch, refuse, shuffled
from .folders import TEXTS, class_labels, look

SPLIT = {"train": "training/", "test": "test/"}  # the first part of the names of Reuters' documents


def read_texts(files: Sequence[Path]) -> dict[Path, str]:
    """The texts of files by file, without empty texts; a line on stderr names some empty files.

    Raises DataError, with the names, for files that are not UTF-8 text.
    """
    texts, bad, empty = {}, [], []
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            bad.append(f"{file} cannot be read as UTF-8 text ({error}); convert or remove it")
            continue
        if text.strip():
            texts[file] = text
        else:
            empty.append(str(file))
    refuse(bad)
    if empty:
        some = ", ".join(empty[:3]) + ", ..." * (len(empty) > 3)
        warn(f"left out: {len(empty)} empty text{'s' * (len(empty) > 1)}, {some}")
    return texts


def folded(text: str) -> str:
    """A text in the form for comparing words, Unicode's NFKC_Casefold.

    A word is the same with combining accents, ligatures, full-width letters, capitals or soft hyphens.
    """
    if text.isascii():
        return text.lower()
    text = unicodedata.normalize("NFKC", text).casefold()
    # remove invisible characters, except the zero-width space, which separates words
    text = "".join(c for c in text if c == "\u200b" or unicodedata.category(c) != "Cf")
    return unicodedata.normalize("NFKC", text)


@cache
def _pieces() -> Any:
    """A pattern for a run of characters of scripts without spaces (group "run"), or a word of two letters or more."""
    import regex

    scripts = ("Han", "Hiragana", "Katakana", "Bopomofo", "Thai", "Lao", "Khmer", "Myanmar")
    either = "".join(rf"\p{{{script}}}" for script in scripts)
    unspaced = rf"[\w&&[ー{either}]]"  # ー belongs to no script
    return regex.compile(rf"(?V1)(?P<run>(?:{unspaced})+)|(?:[\w--{unspaced}]\p{{M}}*+){{2,}}")


def tokens(text: str) -> list[str]:
    """The words of a text, `folded`: runs of two or more letters, digits and marks.

    Chinese, Japanese, Thai, Lao, Khmer and Burmese are written without spaces. In these, each pair of neighbouring
    characters (with their marks) is a word, as in Lucene's CJKAnalyzer; a character without a neighbour is a word, too.
    """
    import regex

    found = []
    for piece in _pieces().finditer(folded(text)):
        if piece["run"] is None:
            found.append(piece[0])
        else:
            characters = regex.findall(r"\P{M}\p{M}*|\p{M}+", piece[0])
            found += [a + b for a, b in itertools.pairwise(characters)] or characters
    return found


def counts(texts: Sequence[str], vocabulary: Sequence[str]) -> np.ndarray:
    """The count of each word of the vocabulary in each text, in any case and Unicode form. -> [N, V] float32."""
    from sklearn.feature_extraction.text import CountVectorizer

    words = [folded(word) for word in vocabulary]
    known = {word: column for column, word in enumerate(dict.fromkeys(words))}
    analyzer: Any = tokens
    table: Any = CountVectorizer(vocabulary=known, analyzer=analyzer).transform(texts)
    return table.toarray().astype(np.float32)[:, [known[word] for word in words]]


def bags(texts: Sequence[str], vocabulary: Sequence[str]) -> np.ndarray:
    """Each text as the probabilities of its words; all zero for a text without known words. -> [N, V] float32."""
    table = counts(texts, vocabulary)
    return table / np.maximum(table.sum(1, keepdims=True), 1)


def commonest(texts: Sequence[str], words: int) -> tuple[str, ...]:
    """The `words` commonest words of the texts in alphabetical order, without English stop words.

    Raises DataError for texts without other words.
    """
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, CountVectorizer

    check_sizes(words=words)
    kept: Any = lambda text: [word for word in tokens(text) if word not in ENGLISH_STOP_WORDS]
    try:
        return tuple(CountVectorizer(analyzer=kept, max_features=words).fit(texts).get_feature_names_out())
    except ValueError:
        raise DataError("the training texts hold only stop words or no words; check the content of the files") from None


def texts(
    path: str | Path, *, words: int = 2000, count_words: bool = False, test_fraction: float = 0.2, seed: int = 0
) -> Dataset:
    """A folder of UTF-8 text files (.txt, .text, .md), each a document: probabilities of words [N, V].

    Empty files are left out. Subfolders `train` and `test` (and `valid`) are splits; the subfolders of a split are its
    classes.

    Args:
        path: the folder.
        words: the number of words to use, the commonest words of the training documents without stop words.
        count_words: give counts of words instead, for the likelihood of whole documents. Squared errors and
            cross-entropies then compare probabilities with counts, and have no meaning.
        test_fraction: the fraction of documents to hold out if there is no folder `test`.
        seed: of that split.

    Raises:
        DataError: no documents, files that are not text, or no words.
    """
    path = expanded(path)
    looked = look(path, "texts")
    roots = looked.roots
    looked.tell()
    found = {split: read_texts(files) for split, files in looked.files.items()}
    if empty := [str(roots[split]) for split, read in found.items() if not read]:
        raise DataError(f"{', '.join(empty)} holds no documents with words in them ({', '.join(TEXTS)})")
    classes, numbers = class_labels(roots, {split: list(read) for split, read in found.items()})
    labels = {split: numbers.get(split) for split in found}
    contents = {split: list(read.values()) for split, read in found.items()}
    names = {split: [str(p.relative_to(path)) for p in read] for split, read in found.items()}
    if len(contents) == 1:  # split before the vocabulary, which comes from train alone
        everything, y = contents["train"], labels["train"]
        parts = dict(zip(("train", "test"), shuffled(len(everything), test_fraction, seed), strict=True))
        contents = {split: [everything[i] for i in index] for split, index in parts.items()}
        names = {split: [names["train"][i] for i in index] for split, index in parts.items()}
        labels = {split: y and [y[i] for i in index] for split, index in parts.items()}
        test_fraction, seed = TEST_FRACTION, 0  # already used: `from_parts` must not report them as idle
    vocabulary = commonest(contents["train"], words)
    table = counts if count_words else bags
    batches = {split: make_batch(table(of, vocabulary), labels[split]) for split, of in contents.items()}
    return from_parts(
        path.absolute().name,
        batches,
        str(path),
        test_fraction,
        seed,
        classes=classes,
        vocabulary=vocabulary,
        names=names,
    )


def reuters(*, words: int = 2000, count_words: bool = False) -> Dataset:
    """Reuters-21578 by NLTK, ApteMod split: 7769 + 3019 news items; their 90 topics are factors, 0 or 1.

    Args:
        words: the number of words to use, the commonest words of the training documents without stop words.
        count_words: give counts of words instead, for the likelihood of whole documents. Squared errors and
            cross-entropies then compare probabilities with counts, and have no meaning.

    Raises:
        DataError: NLTK or its corpus is not installed.
    """
    try:
        from nltk.corpus import reuters as corpus

        ids = corpus.fileids()
    except ImportError:
        raise DataError("reuters is read by NLTK, which is not installed: pip install -e '.[experiments]'") from None
    except LookupError:
        raise DataError(
            "NLTK does not find its corpus reuters in NLTK_DATA or its default folders: download it by "
            "python -m nltk.downloader reuters, or give a folder of .txt files of your own."
        ) from None
    topics = corpus.categories()
    raw = _contents(corpus, ids)
    parts = {split: [i for i in ids if i.startswith(prefix)] for split, prefix in SPLIT.items()}
    vocabulary = commonest([raw[i] for i in parts["train"]], words)
    table = counts if count_words else bags
    batches = {split: make_batch(table([raw[i] for i in of], vocabulary)) for split, of in parts.items()}
    factors = {
        split: np.array([np.isin(topics, corpus.categories(i)) for i in of], np.float32) for split, of in parts.items()
    }
    return from_parts(
        "reuters", batches, "NLTK", 0.2, 0, factors=factors, factor_names=tuple(topics), vocabulary=vocabulary
    )


def _contents(corpus: Any, ids: Sequence[str]) -> dict[str, str]:
    """The raw documents by id. NLTK opens a zipped corpus for each document, which takes 4 ms; this opens it once."""
    import zipfile

    zipped = getattr(corpus.root, "zipfile", None)
    if zipped is None:
        return {i: corpus.raw(i) for i in ids}
    with zipfile.ZipFile(zipped.filename) as archive:
        return {i: archive.read(corpus.root.entry + i).decode(corpus.encoding(i) or "utf-8") for i in ids}
