"""A small world of facts, in which it is known what a good policy masks: writes text and questions into a folder.

Everybody is born in some place and year, and has a trade. Asked is for the place alone: a model that is
to answer without the text learns most where places are masked. Of more than half of the people training asks nothing.
"""

import json
import random
import sys
from pathlib import Path

WORDS = {
    "first": "Bel Cor Dar Fen Gil Hal Jor Kal Lin Mor Nel Tor",
    "last": "a en is o ra ut ek",
    "place": "Arlen Brisk Corva Dunmoor Eastwick Fennel Garrow Hexley Ironby Jarrow Kestrel Lowick",
    "trade": "painter baker lawyer sailor teacher doctor farmer singer tailor writer",
    "thing": "boat house horse shop book watch garden car",
}
SENTENCES = (
    "{name} was born in {place} in {year} .",
    "The {trade} {name} , born in {place} , bought a {thing} .",
    "Where was {name} born ? In {place} , says the {trade} .",
)


def main(folder: Path) -> None:
    """Writes corpus.txt, contexts.jsonl (of those whose questions are trained on), and questions-SPLIT.jsonl."""
    numbers = random.Random(1)
    words = {name: text.split() for name, text in WORDS.items()}
    people = [first + last for first in words["first"] for last in words["last"]]
    numbers.shuffle(people)
    lines: dict[str, list[str]] = {}
    for number, name in enumerate(people):
        place = numbers.choice(words["place"])
        split = ("valid", "train", "test", "train", "test", "train", "test")[number % 7]
        asked = {"question": f"Where was {name} born ?", "answers": [place]}
        lines.setdefault(f"questions-{split}.jsonl", []).append(json.dumps(asked))
        for sentence in SENTENCES:
            trade, thing = numbers.choice(words["trade"]), numbers.choice(words["thing"])
            text = sentence.format(name=name, place=place, trade=trade, thing=thing, year=numbers.randint(1900, 1999))
            lines.setdefault("corpus.txt", []).append(text)
            if split == "train":
                found = {"context": text, **asked, "answer_start": [text.index(place)]}
                lines.setdefault("contexts.jsonl", []).append(json.dumps(found))
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in lines.items():
        (folder / file).write_text("".join(f"{line}\n" for line in content), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
