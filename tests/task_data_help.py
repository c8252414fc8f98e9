"""Small datasets for tasks, written without the reading of files."""

import numpy as np

from taskmask.data.dataset import Column, Dataset
from taskmask.data.writer import DatasetWriter

ALIGNED = Column("aligned", "int32", of="tokens")


def ragged(rows):
    return np.concatenate([np.zeros(0, np.int64), *rows]), np.array([len(row) for row in rows])


def closed(rows, value):
    return [np.append(row, value) for row in rows]


def write(folder, vocab, splits, labels=None):
    """Writes {split: {column: (Column, chunk)}} and opens it."""
    with DatasetWriter(folder, vocab) as writer:
        for name, columns in splits.items():
            split = writer.split(name, {key: column for key, (column, _) in columns.items()})
            split.append({key: chunk for key, (_, chunk) in columns.items()})
        writer.labels.update(labels or {})
    return Dataset.open(folder)


def tagged_columns(vocab, sentences, names, with_words=True):
    """Columns of [(words, tags), ...]; without words, every token has the tag of its word and is a unit."""
    encoded = vocab.encode_words([words for words, _ in sentences])
    labels = [np.array([names.index(tag) if tag else -1 for tag in tags]) for _, tags in sentences]
    aligned = {"tags": [label[word] for label, (_, word) in zip(labels, encoded, strict=True)]}
    if with_words:
        aligned["word"] = [word for _, word in encoded]
    return {
        "tokens": (Column("ragged", vocab.token_dtype), ragged(closed([ids for ids, _ in encoded], vocab.eos))),
        **{name: (ALIGNED, ragged(closed(rows, -1))[0]) for name, rows in aligned.items()},
    }


def question_columns(vocab, examples):
    """Columns of [(context, question, answers), ...]; the first answer stands in the context, or is None."""
    encoded = vocab.encode_with_offsets([context for context, _, _ in examples])
    spans = []
    for (context, _, answers), (_, starts, ends) in zip(examples, encoded, strict=True):
        start = context.index(answers[0])
        inside = np.flatnonzero((ends > start) & (starts < start + len(answers[0])))
        spans.append([inside[0], inside[-1]])
    tokens = Column("ragged", vocab.token_dtype)
    text = [np.frombuffer(context.encode(), np.uint8) for context, _, _ in examples]
    accepted = [np.frombuffer("\n".join(answers).encode(), np.uint8) for _, _, answers in examples]
    questions = vocab.encode([question for _, question, _ in examples])
    return {
        "tokens": (tokens, ragged(closed([ids for ids, _, _ in encoded], vocab.eos))),
        "starts": (ALIGNED, ragged(closed([starts for _, starts, _ in encoded], 0))[0]),
        "ends": (ALIGNED, ragged(closed([ends for _, _, ends in encoded], 0))[0]),
        "question": (tokens, ragged(closed(questions, vocab.eos))),
        "text": (Column("ragged", "uint8"), ragged(text)),
        "answers": (Column("ragged", "uint8"), ragged(accepted)),
        "answer": (Column("row", "int32", width=2), np.array(spans)),
    }


def text_columns(vocab, examples):
    """Columns of [(text, accepted answers, choices), ...]."""
    texts = vocab.encode([text for text, _, _ in examples])
    lists = {"answers": [row[1] for row in examples], "choices": [row[2] for row in examples]}
    bytes_of = {
        name: [np.frombuffer("\n".join(row).encode(), np.uint8) for row in rows] for name, rows in lists.items()
    }
    return {
        "tokens": (Column("ragged", vocab.token_dtype), ragged(closed(texts, vocab.eos))),
        **{name: (Column("ragged", "uint8"), ragged(rows)) for name, rows in bytes_of.items()},
    }


def random_sentences(names, count, seed=0, words=("un", "believable", "fox", "jumping", "dogs", "我", "naïve")):
    """Sentences of 1 to 9 words with tags; one tag in ten is missing."""
    random = np.random.default_rng(seed)
    sentences = []
    for size in random.integers(1, 10, count):
        tags = [names[at] if random.random() > 0.1 else "" for at in random.integers(len(names), size=size)]
        sentences.append((random.choice(words, size).tolist(), tags))
    return sentences
