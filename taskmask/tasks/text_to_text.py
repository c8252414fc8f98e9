"""What the tasks of encoder-decoders share: a text is read, another one is written.

Shapes: N rows (B rows times K views), S tokens read, U tokens written, P of them real.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from taskmask.data.rows import Batch
from taskmask.data.source import Source
from taskmask.data.targets import shift_right
from taskmask.metrics.bootstrap import Measure
from taskmask.modules.spec import HeadSpec
from taskmask.tasks.base import Answers, Task, Totals

if TYPE_CHECKING:
    import torch

    from taskmask.data.vocab import Vocabulary


class TextToTextTask(Task):
    """A task whose targets are texts; a subclass writes `make_batch` and `predict`."""

    default_model = "bart_mini"
    default_criterion = "seq2seq"
    gives_target = True

    def heads(self) -> dict[str, HeadSpec]:
        """One language-model head, "seq2seq", of the decoder."""
        return {"seq2seq": HeadSpec("lm")}

    def metrics(self, totals: Totals) -> dict[str, float]:
        """Mean loss in nats, its exponential, and accuracy over the tokens of the targets, after right ones each."""
        count = max(totals["seq2seq_count"], 1)
        loss = totals["seq2seq"] / count
        return {
            "loss": loss,
            "perplexity": math.exp(min(loss, 100.0)),
            "accuracy": totals["seq2seq_correct"] / count,
        }

    def answers(self, outputs: dict[str, torch.Tensor], batch: Batch) -> Answers:
        """Loss in nats, hits and targets of every row of the batch, views apart."""
        import torch

        logits, labels = outputs["seq2seq"].float(), batch.targets["seq2seq"]
        num_rows, width = batch.inputs["target"].shape
        row = batch.inputs["positions"]["seq2seq"] // width
        losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none").double()
        parts = torch.stack([losses, (logits.argmax(-1) == labels).double(), torch.ones_like(losses)])
        sums = torch.zeros(3, num_rows, dtype=torch.float64, device=logits.device).index_add_(1, row, parts)
        loss, correct, count = sums.cpu().numpy()
        ids = np.tile(np.asarray(batch.ids), num_rows // len(batch.ids))
        return {"ids": ids, "loss": loss, "correct": correct, "count": count}

    def measure(self, answers: Answers, source: Source) -> Measure:
        """The metrics by rows."""
        table = np.stack([answers["loss"], answers["correct"], answers["count"]])

        def metrics(index: np.ndarray) -> dict[str, float]:
            loss, correct, count = table[:, index].sum(1)
            return self.metrics({"seq2seq": loss, "seq2seq_correct": correct, "seq2seq_count": count})

        return Measure(table.shape[1], metrics)

    def show(self, batch: Batch, outputs: dict[str, torch.Tensor] | None = None) -> list[str]:
        """Returns a line a row: what is read [what is to be written] or, with outputs, [... > the model's guesses]."""
        read, width = np.asarray(batch.inputs["tokens"]), batch.inputs["target"].shape[1]
        row = np.asarray(batch.inputs["positions"]["seq2seq"]) // width
        texts = [np.asarray(batch.targets["seq2seq"])]
        if outputs is not None:
            texts.append(outputs["seq2seq"].argmax(-1).cpu().numpy())
        said = [" > ".join(self.vocab.decode(text[row == number]) for text in texts) for number in range(len(read))]
        return [f"{self.vocab.decode(tokens)} [{answer}]" for tokens, answer in zip(read, said, strict=True)]


def read_texts(tokens: np.ndarray, lengths: np.ndarray) -> dict[str, Any]:
    """Returns the inputs of the encoder: "tokens", int64 [N, S], and "keep", bool [N, S], where there is padding."""
    keep = np.arange(tokens.shape[1]) < lengths[:, None]
    return {"tokens": tokens, **({} if keep.all() else {"keep": keep})}


def written_texts(labels: np.ndarray, lengths: np.ndarray, vocab: Vocabulary) -> tuple[dict[str, Any], np.ndarray]:
    """Returns the inputs of the decoder, and what it must say.

    Args:
        labels: int64 [N, U], each `<s> text </s>`.
        lengths: int64 [N]; a row of length 0 has no targets.
        vocab: its `</s>` starts what the decoder reads.

    Returns:
        "target", int64 [N, U], and "positions", {"seq2seq": int64 [P]}; and the right tokens, int64 [P].

    **Source:** transformers, `shift_tokens_right` of BART: `</s>` first, then all labels but the last.
    """
    positions = np.flatnonzero(np.arange(labels.shape[1]) < lengths[:, None])
    target = shift_right(labels, lengths, vocab.eos, vocab.pad)
    return {"target": target, "positions": {"seq2seq": positions}}, labels.reshape(-1).take(positions)
