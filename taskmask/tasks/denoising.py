"""Denoising: read a text with spans taken out and sentences out of order, write the spans or the whole text."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np

from taskmask.config import Problems, opt
from taskmask.data.batch import Batch, TokenBatch
from taskmask.data.padding import gather
from taskmask.data.rng import RowRng
from taskmask.errors import ConfigError, DataError
from taskmask.masking.replace import Gaps, collapse_spans, insert_gaps, permute_sentences
from taskmask.masking.targets import full_sentence, masked_spans, put_back, with_room
from taskmask.registry import register_task
from taskmask.tasks.text_to_text import TextToTextTask, read_texts, written_texts


@dataclasses.dataclass(frozen=True)
class DenoisingConfig:
    """What is done to a text besides taking spans out, and what is to be written."""

    output: Literal["sentence", "spans"] = opt(
        "sentence", "what is written: the whole text (BART), or the spans that were taken out (T5)"
    )
    insertions: float = opt(0.0, "mean number of <mask>s that hide nothing for each span; BART: 0.0524")
    permute: bool = opt(False, "sentences of a document in random order, before spans are chosen (BART)")
    sentinels: bool = opt(False, "spans are marked <extra_id_0>, <extra_id_1> ... of the vocabulary (T5), not <mask>")

    def __post_init__(self) -> None:
        problems = Problems()
        share = self.insertions
        problems.check(0 <= share <= 10, f"is {share}", where="task.insertions", expected="from 0 to 10")
        problems.raise_any()


@register_task("denoising", config=DenoisingConfig)
class Denoising(TextToTextTask):
    """Reads a text in which each span that the masker chose is one `<mask>`, and writes the text or the spans.

    A span is a run of neighbouring chosen tokens: where a masker chooses spans that touch, they are one. Spans that are
    written are separated by `<mask>`; a row of which nothing is taken out then has no target.

    **Source:** Lewis et al. 2020 (BART), section 2.2; Raffel et al. 2020 (T5), section 3.1.4 (spans); Ye et al. 2021,
    "On the Influence of Masking Policies in Intermediate Pre-training" (both outputs, any policy).
    """

    default_masker = "infilling"

    def __init__(self, config: Any, vocab: Any, masker: Any, labels: dict[str, list[str]]):
        super().__init__(config, vocab, masker, labels)
        self.sentinels = vocab.sentinels if config.sentinels else np.zeros(0, np.int64)
        if config.sentinels and not len(self.sentinels):
            raise DataError(
                "the vocabulary has no pieces that mark spans",
                where="task.sentinels",
                expected="<extra_id_0>, <extra_id_1> and so on, or [unused0] and so on",
                fix="prepare the data with taskmask-preprocess --vocab-sentinels 100, with the tokenizer of T5, or "
                "leave out task.sentinels",
            )
        if config.permute and masker is not None and masker.over_epochs:
            expected = "tokens in the order of the text, as the masks of several epochs cover a row together"
            raise ConfigError("is true", where="task.permute", expected=expected, fix="leave it out, or masker.mode")

    @classmethod
    def sample(cls, options: Any) -> dict[str, str]:
        """A text with a gap."""
        return {"text": "Here a <mask> is missing."}

    @property
    def marks(self) -> np.ndarray:
        """Ids that mark spans."""
        return self.sentinels if len(self.sentinels) else np.array([self.vocab.mask])

    def make_batch(self, rows: TokenBatch, rng: RowRng) -> Batch:
        """Selects, corrupts and builds targets: K*B rows for a masker of K views."""
        assert self.masker is not None
        config = self.config
        given = permute_sentences(rows, rng) if config.permute else rows
        mask = self.masker(given, rng)
        inserted = insert_gaps(given, mask, config.insertions, rng) if config.insertions else None
        gaps = Gaps(given, mask, inserted, self.sentinels)
        if config.output == "spans" and len(self.sentinels):
            gaps = with_room(gaps)
        if config.output == "sentence":
            labels, lengths = full_sentence(rows.tokens, rows.lengths, len(mask))
        else:
            labels, lengths = masked_spans(gaps)
            lengths = np.where(gaps.marks.any(axis=1), lengths, 0)
        written, right = written_texts(labels, lengths, self.vocab)
        inputs = {**read_texts(*collapse_spans(gaps)), **written}
        return Batch(inputs, {"seq2seq": right}, rows.ids, int(rows.lengths.sum()) * len(mask))

    def predict(self, model: Any, records: list[dict[str, Any]], top: int, max_length: int) -> list[dict[str, Any]]:
        """Writes, greedily, what was taken out at every `<mask>`: {"generated", "filled": the whole text}.

        Raises:
            DataError: a text without `<mask>`, or longer than the model can take.
        """
        import torch

        encoded = [np.asarray(self.vocab.encode_with_masks(record["text"]), np.int64) for record in records]
        for record, ids in zip(records, encoded, strict=True):
            num = int((ids == self.vocab.mask).sum())
            if not num:
                raise DataError(f"no <mask> in {record['text']!r}", where="text", fix="write <mask> where a gap is")
            if len(ids) + 2 > max_length or num > (len(self.sentinels) or num):
                what = f"{len(ids) + 2} tokens and {num} <mask>s in {record['text'][:60]!r}..."
                most = f" and {len(self.sentinels)} <mask>s" * bool(len(self.sentinels))
                raise DataError(what, where="text", expected=f"at most {max_length} tokens{most}")
            if len(self.sentinels):
                ids[ids == self.vocab.mask] = self.sentinels[:num]
        stops = np.cumsum([len(ids) for ids in encoded])
        starts = np.concatenate([[0], stops[:-1]])
        vocab = self.vocab
        tokens, lengths = gather(np.concatenate(encoded), starts, stops, vocab.bos, vocab.eos, vocab.pad)
        inputs = {name: torch.from_numpy(array) for name, array in read_texts(tokens, lengths).items()}
        how, keep = self.generation(max_length), inputs.get("keep")
        written = model.generate(inputs["tokens"], keep, how, bos=vocab.bos, eos=vocab.eos)
        answers = []
        for ids, found in zip(encoded, written, strict=True):
            spans = np.asarray(found, np.int64)
            whole = self.config.output == "sentence"
            filled = spans if whole else put_back(ids, spans, self.marks, leading=len(self.sentinels) > 0)
            answers.append({"generated": vocab.decode(spans), "filled": vocab.decode(filled)})
        return answers

    def say(self, record: dict[str, Any], answer: dict[str, Any]) -> list[str]:
        """The text with its gaps filled."""
        return [record["text"], f"  = {answer['filled']}"]
