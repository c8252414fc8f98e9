"""Texts whose important words are known, and settings of tiny trainings on them."""

import random

from taskmask.config.settings import Settings

WORDS = [a + b + c for a in "bdfgklmnprst" for b in "aeiou" for c in "lnrst"]
GOOD, BAD, PLAIN = WORDS[:10], WORDS[10:20], WORDS[20:140]
MODEL = {"name": "tiny", "layers": 1, "width": 64, "heads": 2, "dropout": 0.0, "attention_dropout": 0.0, "pool": "mean"}


def sentence(numbers):
    """Returns a class and ten words: one or two keywords of the class, none where the text says nothing."""
    label = numbers.choice(["good", "bad", "neither"])
    words = numbers.choices(PLAIN, k=10)
    for place in numbers.sample(range(10), numbers.choice([1, 2])) if label != "neither" else []:
        words[place] = numbers.choice(GOOD if label == "good" else BAD)
    return label, " ".join(words)


def write_tsv(file, num, seed):
    numbers = random.Random(seed)
    rows = [sentence(numbers) for _ in range(num)]
    file.write_text("label\ttext\n" + "".join(f"{label}\t{text}\n" for label, text in rows))
    return str(file)


def settings(folder, data, run, task, steps, **more):
    tables = {
        "data": {"path": str(folder / data), "length": 48},
        "run": {"folder": str(folder / run), "tensorboard": False, "threads": 1, "save_every": 1000},
        "task": task,
        "model": MODEL,
        "train": {"steps": steps, "max_tokens": 1024, "valid_every": steps, **more.pop("train", {})},
        "optim": {"lr": 3e-3},
    }
    return Settings.of({**tables, **more})
