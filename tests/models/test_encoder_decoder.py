"""The encoder-decoder: known sizes, what sees what, incremental decoding, precision, generation, learning."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from taskmask.config.settings import OptimSettings, Settings
from taskmask.errors import ConfigError
from taskmask.models import EncoderDecoderConfig
from taskmask.models.encoder import Encoder
from taskmask.models.encoder_decoder import EncoderDecoder
from taskmask.modules.heads_spec import GenerationConfig, HeadSpec
from taskmask.registry import MODELS
from taskmask.tasks.masked_lm import MaskedLM
from taskmask.tokenizer.tokenizer import Vocabulary, train_vocabulary
from taskmask.training.build import build_objective, build_task
from taskmask.training.objective import Objective
from taskmask.training.optim import adamw, freeze

VOCAB, LENGTH, PAD, BOS, EOS = 60, 24, 0, 1, 2
LM = {"seq2seq": HeadSpec("lm")}


def build(heads=LM, dropout=0.0, **settings):
    torch.manual_seed(0)
    given = {"layers": 2, "decoder_layers": 3, "width": 32, "heads": 4}
    config = EncoderDecoderConfig(**{**given, "dropout": dropout, "attention_dropout": dropout, **settings})
    model = EncoderDecoder(config, vocab_size=VOCAB, max_length=LENGTH, heads=heads)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


@pytest.fixture(scope="module")
def batch():
    """Sources and targets of different lengths."""
    torch.manual_seed(1)
    keep = torch.arange(14)[None] < torch.tensor([14, 9, 2])[:, None]
    tokens = torch.where(keep, torch.randint(4, VOCAB, keep.shape), PAD)
    target = torch.randint(4, VOCAB, (3, 10))
    target[:, 0] = EOS
    target[2, 6:] = PAD
    return tokens, keep, target


def num_parameters(config, vocab, length):
    """The size of an encoder-decoder with one language-model head, from the formula."""
    d, f = config.width, config.feed_forward_width
    norm, attention, feed_forward = 2 * d, 4 * d * d + 4 * d, 2 * d * f + f + d
    encoder = config.layers * (attention + feed_forward + 2 * norm)
    decoder = config.decoder_layers * (2 * attention + feed_forward + 3 * norm)
    last = 2 * norm if config.norm == "pre" else 0
    return vocab * d + 2 * (length * d + norm) + encoder + decoder + last + vocab


# Those of facebook/bart-base and -large: 139,420,416 and 406,291,456 with 2 unused places a table, without the bias.
KNOWN = {"bart_base": 139_420_416 - 4 * 768 + 50265, "bart_large": 406_291_456 - 4 * 1024 + 50265}
NAMES = [name for name in MODELS.names() if MODELS.get(name).load() is EncoderDecoder]


@pytest.mark.parametrize("name", NAMES)
def test_presets_have_the_size_of_the_formula(name):
    entry = MODELS.get(name)
    config = entry.config(**entry.preset)
    with torch.device("meta"):
        model = EncoderDecoder(config, vocab_size=50265, max_length=1024, heads=LM)
    size = sum(p.numel() for p in model.parameters())
    assert size == num_parameters(config, 50265, 1024) == KNOWN.get(name, size)
    assert model.num_layers == config.layers + config.decoder_layers


def test_the_known_presets_are_there():
    assert {*KNOWN, "bart_tiny", "bart_mini", "bart_small", "encoder_decoder"} == set(NAMES)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_what_is_seen(norm, batch):
    """The decoder sees what was before and the real source; padding and what comes later it does not see."""
    model, (tokens, keep, target) = build(norm=norm), batch
    logits = model(tokens, keep, target=target)["seq2seq"].view(3, 10, VOCAB)
    other = torch.where(keep, tokens, 7)
    torch.testing.assert_close(model(other, keep, target=target)["seq2seq"].view(3, 10, VOCAB), logits)
    later = target.clone()
    later[:, 6:] = 9
    changed = model(tokens, keep, target=later)["seq2seq"].view(3, 10, VOCAB)
    torch.testing.assert_close(changed[:, :6], logits[:, :6])
    assert not torch.allclose(changed[:2, 6:], logits[:2, 6:], atol=1e-3)
    source = tokens.clone()
    source[:, 1] = 5
    assert not torch.allclose(model(source, keep, target=target)["seq2seq"].view(3, 10, VOCAB), logits, atol=1e-3)
    for row, length in enumerate((14, 9, 2)):
        alone = model(tokens[row : row + 1, :length], target=target[row : row + 1])["seq2seq"]
        torch.testing.assert_close(alone, logits[row], atol=1e-5, rtol=1e-4)


def test_positions_are_those_of_the_target(batch):
    model, (tokens, keep, target) = build(), batch
    positions = torch.tensor([0, 9, 10, 25])
    everywhere = model(tokens, keep, target=target)["seq2seq"]
    chosen = model(tokens, keep, {"seq2seq": positions}, target=target)["seq2seq"]
    torch.testing.assert_close(chosen, everywhere[positions])
    assert model(tokens, keep, {"seq2seq": positions[:0]}, target=target)["seq2seq"].shape == (0, VOCAB)


@pytest.mark.parametrize("pieces", [[1] * 10, [3, 1, 4, 2], [10]])
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_incremental_decoding_is_full_decoding(norm, pieces, batch):
    model, (tokens, keep, target) = build(norm=norm), batch
    memory = model.encode(tokens, keep)
    cache = model.start(memory, keep, room=10)
    parts = [model.decode(part, memory, keep, cache) for part in target.split(pieces, 1)]
    torch.testing.assert_close(torch.cat(parts, 1), model.decode(target, memory, keep), atol=1e-5, rtol=1e-4)


def test_heads_on_the_source_answer_as_an_encoder_does(batch):
    """Kinds row and token read the encoder alone; with an lm head beside them the target is needed."""
    tokens, keep, target = batch
    heads = {"span": HeadSpec("token", 2), "label": HeadSpec("row", 3)}
    model = build(heads)
    encoder = Encoder(
        MODELS.get("encoder").config(layers=2, width=32, heads=4, norm_epsilon=1e-5),
        vocab_size=VOCAB, max_length=LENGTH, heads=heads,
    ).eval()  # fmt: skip
    encoder.load_state_dict({name: value for name, value in model.state_dict().items() if "decoder" not in name
                             and "target" not in name})  # fmt: skip
    positions = {"span": torch.tensor([3, 20])}
    ours, theirs = model(tokens, keep, positions), encoder(tokens, keep, positions)
    assert {name: tuple(found.shape) for name, found in ours.items()} == {"span": (2, 2), "label": (3, 3)}
    for name in heads:
        torch.testing.assert_close(ours[name], theirs[name])
    both = build({**heads, **LM})(tokens, keep, target=target)
    assert both["seq2seq"].shape == (30, VOCAB) and both["span"].shape == (42, 2)
    with pytest.raises(ValueError, match="no target, which the decoder of head seq2seq reads"):
        build()(tokens, keep)
    with pytest.raises(ValueError, match=r"no head that scores tokens; the heads are \['label', 'span'\]"):
        model.generate(tokens, keep, GenerationConfig(), bos=BOS, eos=EOS)


def test_what_is_too_long(batch):
    model, (tokens, keep, target) = build(), batch
    with pytest.raises(ValueError, match="rows of 28 tokens, but the model has learned positions for 24"):
        model(tokens.repeat(1, 2), target=target)
    with pytest.raises(ValueError, match="targets of 30 tokens, but the model has learned positions for 24"):
        model(tokens, keep, target=target.repeat(1, 3))
    with pytest.raises(ValueError, match="max_length is 32, but the model has learned positions for 24"):
        model.generate(tokens, keep, GenerationConfig(), bos=BOS, eos=EOS)
    with pytest.raises(ValueError, match=r"positions for \['mlm'\], but the heads are \['seq2seq'\]"):
        model(tokens, keep, {"mlm": tokens[0]}, target=target)


def test_depths_and_freezing():
    model = build({**LM, "span": HeadSpec("token", 2)}, norm="pre")
    depths = {name: model.depth(name) for name, _ in model.named_parameters()}
    assert model.num_layers == 5
    for start, wanted in (
        ("embeddings.", 0), ("target_embeddings.", 0), ("layers.0.", 1), ("layers.1.", 2), ("norm.", 2),
        ("decoder_layers.0.", 3), ("decoder_layers.2.", 5), ("decoder_norm.", 6), ("heads.", 6),
    ):  # fmt: skip
        assert {depth for name, depth in depths.items() if name.startswith(start)} == {wanted}, start

    class Nothing(torch.nn.Module):
        """Has no parameters."""

    objective = Objective(model, Nothing())
    groups = adamw(objective, OptimSettings(layer_decay=0.5)).param_groups
    assert {group["scale"] for group in groups} == {1.0, *(0.5**power for power in range(2, 8))}
    freeze(objective, 2)
    assert {name.partition(".")[0] for name, p in model.named_parameters() if p.requires_grad} == {
        "decoder_layers", "decoder_norm", "heads"
    }  # fmt: skip
    with pytest.raises(ConfigError, match="at most 5, the layers of the model"):
        freeze(objective, 6)


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.1), (torch.float16, 0.02)])
def test_low_precision_follows_fp32(dtype, tolerance, norm, batch):
    tokens, keep, target = batch
    config = EncoderDecoderConfig(layers=2, decoder_layers=2, width=32, heads=4, norm=norm, init_std=0.1)
    torch.manual_seed(0)
    model = EncoderDecoder(config, vocab_size=VOCAB, max_length=LENGTH, heads=LM).eval()
    wanted = model(tokens, keep, target=target)["seq2seq"]
    with torch.autocast("cpu", dtype):
        logits = model(tokens, keep, target=target)["seq2seq"]
        memory = model.encode(tokens, keep)
        cache = model.start(memory, keep, 10)
        steps = torch.cat([model.decode(one, memory, keep, cache) for one in target.split(1, 1)], 1)
        texts = model.generate(tokens, keep, GenerationConfig(beams=3, max_length=9), bos=BOS, eos=EOS)
    assert wanted.std() > 3 * tolerance and logits.dtype == dtype and len(texts) == 3
    torch.testing.assert_close(logits.float(), wanted, atol=tolerance, rtol=tolerance)
    full = model.decode(target, model.encode(tokens, keep), keep)
    torch.testing.assert_close(steps.float(), full, atol=10 * tolerance, rtol=tolerance)


@pytest.mark.parametrize("beams", [1, 3])
def test_generated_alone_and_in_a_batch(beams, batch):
    """Neither the other rows nor padding matter, and each text is the best that step by step decoding finds."""
    model, (tokens, keep, _) = build(), batch
    config = GenerationConfig(beams=beams, max_length=12, no_repeat_ngram=2)
    texts = model.generate(tokens, keep, config, bos=BOS, eos=EOS)
    for row, length in enumerate((14, 9, 2)):
        (alone,) = model.generate(tokens[row : row + 1, :length], None, config, bos=BOS, eos=EOS)
        assert np.array_equal(alone, texts[row]) and alone.dtype == np.int64
    if beams == 1:
        plain = model.generate(tokens, keep, GenerationConfig(max_length=12), bos=BOS, eos=EOS)
        for row, text in enumerate(plain):
            said = torch.tensor([[EOS, BOS, *text]])
            logits = model(tokens[row : row + 1], keep[row : row + 1], target=said)["seq2seq"]
            chosen = logits.argmax(-1)[1:].tolist()
            assert chosen[:-1] == text.tolist() and (chosen[-1] == EOS or len(text) == 10)


def test_it_learns_to_turn_texts_around():
    """Source 1 a b c 2, target 1 c b a 2: all exactly right, with greedy and beam search."""
    torch.manual_seed(0)
    config = EncoderDecoderConfig(layers=1, decoder_layers=1, width=32, heads=4, dropout=0.0, attention_dropout=0.0)
    model = EncoderDecoder(config, vocab_size=16, max_length=8, heads=LM)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    ends = torch.tensor([[BOS, EOS]])

    def examples(number):
        words = torch.randint(3, 16, (number, 4))
        bos, eos = ends.expand(number, 2).split(1, 1)
        return torch.cat((bos, words, eos), 1), torch.cat((bos, words.flip(1), eos), 1)

    for _ in range(300):
        tokens, labels = examples(64)
        target = torch.cat((tokens.new_full((64, 1), EOS), labels[:, :-1]), 1)
        loss = F.cross_entropy(model(tokens, target=target)["seq2seq"], labels.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.02:
            break
    assert loss < 0.1 < math.log(16)
    tokens, labels = examples(20)
    for beams in (1, 4):
        texts = model.eval().generate(tokens, None, GenerationConfig(beams=beams, max_length=7), bos=BOS, eos=EOS)
        assert np.mean([np.array_equal(text, row[1:-1]) for text, row in zip(texts, labels.numpy(), strict=True)]) > 0.8


def test_a_task_and_a_model_that_do_not_fit(monkeypatch):
    vocab = Vocabulary(train_vocabulary(["the quick brown foxes jump over the lazy dogs"] * 20, 290, "bpe"))
    sizes = {"layers": 1, "width": 16, "heads": 2}
    settings = Settings.of(task="masked_lm", model={"name": "bart_tiny", "decoder_layers": 1, **sizes})
    with pytest.raises(
        ConfigError,
        match=r"model.name: is bart_tiny, whose decoder reads a target, but task masked_lm has none; "
        "expected an encoder; --model mini",
    ):
        build_objective(settings, build_task(settings, vocab, {}))
    monkeypatch.setattr(MaskedLM, "gives_target", True)
    monkeypatch.setattr(MaskedLM, "default_model", "bart_mini")
    assert build_objective(settings, build_task(settings, vocab, {})).model.reads_target
    assert Settings.of(task="masked_lm").model.name == "bart_mini"
    settings = Settings.of(task="masked_lm", model={"name": "tiny", **sizes})
    with pytest.raises(ConfigError, match="is tiny, an encoder, but task masked_lm wants a text written"):
        build_objective(settings, build_task(settings, vocab, {}))
    monkeypatch.undo()
    span = Settings.of(task="span", model={"name": "bart_tiny", "decoder_layers": 1, **sizes})
    assert "span" in build_objective(span, build_task(span, vocab, {})).model.heads  # on the encoder alone


def test_settings_that_do_not_fit():
    with pytest.raises(ConfigError) as caught:
        EncoderDecoderConfig(width=30, heads=4, decoder_layers=0, dropout=1.0)
    for part in ("model.heads: is 4", "a divisor, such as 3", "model.decoder_layers: is 0", "model.dropout: is 1.0"):
        assert part in str(caught.value)
