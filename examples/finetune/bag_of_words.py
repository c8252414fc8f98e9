"""A bag of words beside a model: python bag_of_words.py TRAIN.tsv DEV.tsv TEST.tsv prints its accuracy on test.

TF-IDF of words and pairs of words, of 1 to 3 characters for Chinese; logistic regression, its strength chosen on dev.
"""

from __future__ import annotations

import csv
import gzip
import sys

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression


def main(train: str, dev: str, test: str) -> None:
    """Fits, chooses and prints."""
    (texts, labels), held_out, final = read(train), read(dev), read(test)
    chinese = any("\u4e00" <= c <= "\u9fff" for c in "".join(texts[:100]))
    form = {"analyzer": "char", "ngram_range": (1, 3)} if chinese else {"ngram_range": (1, 2)}
    vectors = TfidfVectorizer(sublinear_tf=True, **form)
    known = vectors.fit_transform(texts)
    models = [LogisticRegression(C=c, max_iter=2000).fit(known, labels) for c in (1, 4, 16, 64)]
    best = max(models, key=lambda model: model.score(vectors.transform(held_out[0]), held_out[1]))
    print(f"bag of words: accuracy on test {best.score(vectors.transform(final[0]), final[1]):.3f} (C = {best.C})")


def read(path: str) -> tuple[list[str], list[str]]:
    """Returns texts (with a second text behind, if there is one) and labels of a table."""
    with gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else open(path, encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [" ".join(filter(None, (row["text"], row.get("aspect")))) for row in rows], [row["label"] for row in rows]


if __name__ == "__main__":
    main(*sys.argv[1:4])
