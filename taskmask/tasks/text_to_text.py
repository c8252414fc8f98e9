"""What the tasks of encoder-decoders share: a text is read, another one is written.

Shapes: N rows (B rows times K views), S tokens read, U tokens written, P of them real.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from taskmask.data.batch import Batch
from taskmask.masking.targets import shift_right
from taskmask.modules.heads_spec import GenerationConfig, HeadSpec
from taskmask.tasks.token_targets import TokenTask

if TYPE_CHECKING:
    import torch

    from taskmask.tokenizer.tokenizer import Vocabulary


class TextToTextTask(TokenTask):
    """A task whose targets are texts; a subclass writes `make_batch` and `predict`."""

    kind = "seq2seq"
    holds = "target"
    default_model = "bart_mini"
    default_criterion = "seq2seq"
    gives_target = True

    def heads(self) -> dict[str, HeadSpec]:
        """One language-model head, "seq2seq", of the decoder."""
        return {"seq2seq": HeadSpec("lm")}

    def generation(self, longest: int) -> GenerationConfig:
        """Returns how texts are generated: greedily.

        Args:
            longest: tokens in the longest text that the model can write.
        """
        return GenerationConfig(max_length=longest)

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
    """Returns the inputs of the decoder, and the right tokens.

    The `<s>` that begins every text is not a target: it is always the same, and `generate` forces it.

    Args:
        labels: int64 [N, U], each `<s> text </s>`.
        lengths: int64 [N]; a row of length 0 has no targets.
        vocab: its `</s>` starts the decoder's input.

    Returns:
        "target", int64 [N, U], and "positions", {"seq2seq": int64 [P]}; and the right tokens, int64 [P].

    **Source:** transformers, `shift_tokens_right` of BART: `</s>` first, then all labels but the last; and
    `forced_bos_token_id`, which generation gives without asking the model. Differs from it: transformers trains that
    `<s>` too.
    """
    place = np.arange(labels.shape[1])
    positions = np.flatnonzero((place > 0) & (place < lengths[:, None]))
    target = shift_right(labels, lengths, vocab.eos, vocab.pad)
    return {"target": target, "positions": {"seq2seq": positions}}, labels.reshape(-1).take(positions)
