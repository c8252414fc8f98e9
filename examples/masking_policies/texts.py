"""The texts of real.sh: python texts.py DATA TEXT makes them from the public sets in the folder DATA.

Questions of test are held out from all that learns from questions, the masking policies included.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterable
from pathlib import Path

CHOICES = ("commonsenseqa", "openbookqa", "arc_easy", "arc_challenge", "opentriviaqa")
PARAGRAPHS = 9000  # of the text that the intermediate stage reads


def main(data: Path, text: Path) -> None:
    """Writes every text file."""
    text.mkdir(parents=True, exist_ok=True)
    articles = {split: list(wikipedia(data, split)) for split in ("train", "valid")}
    for split, name in (("train", "wiki.txt"), ("valid", "wiki-valid.txt")):
        write_lines(text / name, ["\n".join(article) + "\n" for article in articles[split]])

    squad = read(data / "squad_v1/train_part.jsonl.gz")
    about = [{"question": x["question"], "answers": x["answers"]} for x in squad]
    for name, rows in (("squad", squad), ("squadcb", about)):
        write(text, name, rows[:-1000], rows[-1000:-700], rows[-700:])
    contexts = list(dict.fromkeys(x["context"] for x in squad))
    paragraphs = [line for article in articles["train"] for line in article[1:] if len(line) > 200]
    write_lines(text / "corpus.txt", contexts + paragraphs[: PARAGRAPHS - len(contexts)])

    open_sets = [read(data / f"{name}/train_dprdev.jsonl") for name in ("nq_open", "triviaqa")]
    tests = [*read(data / "nq_open/dev.jsonl")[:400], *read(data / "triviaqa/dev_dprtest.jsonl")[:400]]
    write(text, "closed", *spread(open_sets, 200), tests)

    train, valid = spread([read(data / f"{name}/train.jsonl") for name in CHOICES], 60)
    splits = {"commonsenseqa": "dev"}  # its test has no answers
    tests = [x for name in CHOICES for x in read(data / name / f"{splits.get(name, 'test')}.jsonl")[:150]]
    write(text, "choose", train, valid, tests)

    titles = [{"question": x[1], "answers": [x[0]]} for x in articles["train"] if len(x) > 1 and len(x[1]) > 100]
    write(text, "title", [x for n, x in enumerate(titles) if n % 15 > 1], titles[1::15], titles[::15])


def wikipedia(data: Path, split: str) -> Iterable[list[str]]:
    """Yields the articles of both Wikipedias, each a list of its title and its paragraphs."""
    for name in ("wiki_en", "wiki_simple"):
        for article in lines(data / f"{name}/{split}.txt").split("\n\n"):
            if paragraphs := [line for line in article.split("\n") if line]:
                yield paragraphs


def spread(sets: list[list[dict]], held_out: int) -> tuple[list[dict], list[dict]]:
    """Returns the rows of several sets for train and for valid, which gets the last `held_out` of each."""
    return [x for rows in sets for x in rows[:-held_out]], [x for rows in sets for x in rows[-held_out:]]


def lines(path: Path) -> str:
    """Returns a text file's text, from its gzip file if that is what there is."""
    packed = path if path.suffix == ".gz" else path.with_name(path.name + ".gz")
    return gzip.decompress(packed.read_bytes()).decode() if packed.exists() else path.read_text(encoding="utf-8")


def read(path: Path) -> list[dict]:
    """Returns the rows of a jsonl file."""
    return [json.loads(line) for line in lines(path).splitlines()]


def write(text: Path, name: str, train: list[dict], valid: list[dict], test: list[dict]) -> None:
    """Writes the three splits of a set."""
    for split, rows in (("train", train), ("valid", valid), ("test", test)):
        write_lines(text / f"{name}-{split}.jsonl", [json.dumps(row, ensure_ascii=False) for row in rows])


def write_lines(path: Path, rows: list[str]) -> None:
    """Writes one text on each line."""
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
