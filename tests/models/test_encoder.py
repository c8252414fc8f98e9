"""The encoder: known sizes, invariances, precision, saving and learning."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from taskmask.errors import ConfigError
from taskmask.models import EncoderConfig
from taskmask.models.base import Model
from taskmask.models.encoder import Encoder
from taskmask.modules.attention import local_mask, rotary_angles
from taskmask.modules.heads_spec import HeadSpec
from taskmask.registry import MODELS

VOCAB, LENGTH = 100, 16
HEADS = {"mlm": HeadSpec("lm")}
KINDS = {
    "bert": {},
    "modern": {"norm": "pre", "positions": "rotary", "activation": "geglu", "bias": False},
    "pre-norm": {"norm": "pre"},
    "electra": {"segments": 2, "embedding_width": 24, "head": "gelu"},
    "local": {
        **{
            "layers": 4,
            "norm": "pre",
            "first_norm": False,
            "positions": "rotary",
            "activation": "geglu",
            "bias": False,
        },
        **{"local_window": 6, "global_every": 3, "rotary_base": 1000.0, "head": "gelu_norm", "pool": "mean"},
    },
}


def build(kind="bert", dropout=0.0, heads=HEADS, **settings):
    torch.manual_seed(0)
    given = {"layers": 2, "width": 32, "heads": 4, "dropout": dropout, "attention_dropout": dropout}
    config = EncoderConfig(**{**given, **KINDS[kind], **settings})
    return Encoder(config, vocab_size=VOCAB, max_length=LENGTH, heads=heads)


def num_parameters(config, vocab, length):
    """The size of an encoder with one language-model head, from the formula."""
    d, f, b = config.width, config.feed_forward_width, int(config.bias)
    norm = d + b * d
    attention = 4 * d * d + b * 4 * d
    gates = 2 if config.activation == "geglu" else 1
    feed_forward = (gates + 1) * d * f + b * (gates * f + d)
    e = config.embedding_width or d
    embeddings = e * (vocab + config.segments + (length if config.positions == "learned" else 0)) + e + b * e
    projection = e * d + b * d if e != d else 0
    head = d * e + b * e + e + b * e + vocab
    last = (norm if config.norm == "pre" else 0) - (0 if config.first_norm else norm)
    return embeddings + projection + config.layers * (attention + feed_forward + 2 * norm) + last + head


ENCODERS = [name for name in MODELS.names() if MODELS.get(name).load() is Encoder]
KNOWN = {  # those of BertForMaskedLM with 30,522 pieces and 512 positions, less the two segments that are not here
    "tiny": 4_416_698 - 2 * 128,
    "small": 28_795_194 - 2 * 512,
    "base": 109_514_298 - 2 * 768,
    "bert_base": 109_514_298,
    "distilbert": 66_985_530,
    "roberta_base": 109_514_298 - 2 * 768,
    "large": 335_174_458 - 2 * 1024,
}


@pytest.mark.parametrize("name", ENCODERS)
def test_presets_have_the_size_of_the_formula(name):
    entry = MODELS.get(name)
    config = entry.config(**entry.preset)
    with torch.device("meta"):
        model = entry.load()(config, vocab_size=30522, max_length=512, heads=HEADS)
    size = sum(p.numel() for p in model.parameters())
    assert size == num_parameters(config, 30522, 512) == KNOWN.get(name, size)


def test_the_known_presets_are_there():
    assert {*KNOWN, "mini", "modern_base"} <= set(ENCODERS)


def test_sizes_of_the_papers():
    # BERT's 109,482,240 hold a pooler (768 x 768 + 768) and two segments besides, which are not here.
    head = 768 * 768 + 768 + 2 * 768 + 30522
    base = MODELS.get("base")
    assert num_parameters(base.config(**base.preset), 30522, 512) - head == 109_482_240 - (768 * 768 + 768) - 2 * 768
    modern = MODELS.get("modern_base")
    assert num_parameters(modern.config(**modern.preset), 50368, 8192) == 149_655_232


def test_geglu_width_keeps_the_number_of_parameters():
    assert EncoderConfig(width=768, activation="geglu").feed_forward_width == 2048
    assert EncoderConfig(width=768).feed_forward_width == 3072
    assert EncoderConfig(width=768, activation="geglu", feed_forward=1152).feed_forward_width == 1152


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_alone_equals_the_row_in_a_padded_batch(kind):
    model = build(kind).eval()
    lengths = [5, 16, 2]
    keep = torch.arange(16)[None] < torch.tensor(lengths)[:, None]
    tokens = torch.randint(VOCAB, (3, 16))
    together = model(tokens, keep)["mlm"].view(3, 16, VOCAB)
    for row, length in enumerate(lengths):
        alone = model(tokens[row : row + 1, :length])["mlm"]
        torch.testing.assert_close(together[row, :length], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_positions_choose_among_all_outputs(kind):
    model = build(kind)
    tokens = torch.randint(VOCAB, (2, 8))
    positions = torch.tensor([1, 6, 9])
    got = model(tokens, positions={"mlm": positions})["mlm"]
    torch.testing.assert_close(got, model(tokens)["mlm"][positions], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_gets_a_gradient_even_without_targets(kind):
    model = build(kind, dropout=0.1)
    logits = model(torch.randint(VOCAB, (2, 8)), positions={"mlm": torch.zeros(0, dtype=torch.int64)})["mlm"]
    assert logits.shape == (0, VOCAB)
    logits.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_order_matters_in_every_kind():
    for kind in KINDS:
        model = build(kind, init_std=0.2).eval()
        tokens = torch.randint(VOCAB, (1, 8))
        assert not torch.allclose(model(tokens)["mlm"].flip(0), model(tokens.flip(1))["mlm"], atol=1e-3)


def test_tied_embedding_is_one_parameter_saved_once():
    model = build()
    names = [name for name, value in model.state_dict().items() if value.shape == (VOCAB, 32)]
    assert names == ["embeddings.tokens.weight"]
    before = model(torch.zeros(1, 1, dtype=torch.int64))["mlm"][0, 7]
    with torch.no_grad():
        model.embeddings.tokens.weight[7] += 1.0
        model.heads["mlm"].norm.bias += 1.0
    assert model(torch.zeros(1, 1, dtype=torch.int64))["mlm"][0, 7] != before


def test_names_of_the_parameters():
    names = {name for name, _ in build(layers=1).named_parameters()}
    layer = ("attention.qkv", "attention.output", "attention_norm", "feed_forward.input", "feed_forward.output")
    modules = [f"layers.0.{part}" for part in (*layer, "feed_forward_norm")]
    modules += ["embeddings.norm", "heads.mlm.dense", "heads.mlm.norm"]
    expected = {f"{module}.{kind}" for module in modules for kind in ("weight", "bias")}
    assert names == expected | {
        "embeddings.tokens.weight",
        "embeddings.positions.weight",
        "heads.mlm.output_bias",
    }


def test_saved_and_loaded_weights_are_equal(tmp_path):
    model = build("modern").eval()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other = build("modern", init_std=0.1).eval()
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    tokens = torch.randint(VOCAB, (2, 8))
    assert torch.equal(model(tokens)["mlm"], other(tokens)["mlm"])


def test_same_seed_same_weights_and_a_first_loss_of_log_v():
    model, again = build(), build()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    tokens = torch.randint(VOCAB, (8, 16))
    loss = F.cross_entropy(model(tokens)["mlm"], torch.randint(VOCAB, (128,)))
    assert loss.item() == pytest.approx(torch.tensor(float(VOCAB)).log().item(), abs=0.1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_where_first_tokens_are_read_the_last_layer_computes_no_others(kind, precision):
    model = build(kind, init_std=0.1, pool="first", heads={"a": HeadSpec("row", 3), "b": HeadSpec("row", 2)}).eval()
    tokens = torch.randint(VOCAB, (4, 16))
    keep = torch.arange(16)[None] < torch.tensor([[16], [9], [1], [12]])
    seen = []
    model.layers[-1].feed_forward.register_forward_hook(lambda module, given, out: seen.append(out.shape[1]))
    for kept in (keep, None):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            found, hidden = model(tokens, kept), model.encode(tokens, kept)
            for name, head in model.heads.items():
                expected = head(hidden, None, model.embeddings.tokens.weight, kept)
                atol = 1e-6 if precision == "fp32" else 0.02
                torch.testing.assert_close(found[name], expected, atol=atol, rtol=1e-5)
    assert seen == [1, 16] * 2
    model.train()
    model(tokens, keep)
    assert seen[-1] == 16


@pytest.mark.parametrize("heads", [{"mlm": HeadSpec("lm")}, {"a": HeadSpec("row", 3), "b": HeadSpec("token", 2)}, {}])
def test_where_other_tokens_are_read_too_it_computes_them(heads):
    model = build(heads=heads).eval()
    assert not model.reads_first_tokens
    assert not build(pool="mean", heads={"a": HeadSpec("row", 3)}).reads_first_tokens


@pytest.mark.parametrize("kind", KINDS)
def test_bf16_autocast_follows_fp32(kind):
    model = build(kind, init_std=0.1)
    tokens = torch.randint(VOCAB, (4, 16))
    keep = torch.arange(16)[None] < torch.tensor([[16], [9], [3], [12]])
    positions = {"mlm": torch.tensor([0, 5, 17, 34, 50])}
    labels = torch.randint(VOCAB, (5,))

    def loss_and_gradient():
        model.zero_grad()
        logits = model(tokens, keep, positions)["mlm"]
        loss = F.cross_entropy(logits.float(), labels)
        loss.backward()
        return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters()])

    exact, gradient = loss_and_gradient()
    with torch.autocast("cpu", torch.bfloat16):
        assert model(tokens)["mlm"].dtype == torch.bfloat16
        assert model.encode(tokens).dtype == torch.float32
        low, low_gradient = loss_and_gradient()
    assert low == pytest.approx(exact, rel=0.02)
    assert (low_gradient - gradient).norm() < 0.05 * gradient.norm()


@pytest.mark.parametrize("kind", KINDS)
def test_learns_a_toy_batch(kind):
    model = build(kind, dropout=0.05)
    tokens = torch.randint(VOCAB, (4, 12))
    targets = torch.arange(0, 48, 3)
    labels = tokens.flatten()[targets]
    inputs = tokens.flatten().index_fill(0, targets, 3).view(4, 12)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(150):
        loss = F.cross_entropy(model(inputs, positions={"mlm": targets})["mlm"], labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    assert F.cross_entropy(model(inputs, positions={"mlm": targets})["mlm"], labels).item() < 0.3


@pytest.mark.parametrize("kind", ["bert", "modern"])
def test_compiles_without_a_break(kind):
    model = build(kind, dropout=0.0)
    tokens, positions = torch.randint(VOCAB, (2, 8)), {"mlm": torch.tensor([1, 6, 9])}
    keep = torch.arange(8)[None] < torch.tensor([[8], [5]])
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(tokens, keep, positions)["mlm"], model(tokens, keep, positions)["mlm"])


def test_wrong_arguments_are_named():
    model = build()
    with pytest.raises(ValueError, match="rows of 17 tokens"):
        model(torch.zeros(1, 17, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"positions for \['mask'\], but the heads are \['mlm'\]"):
        model(torch.zeros(1, 4, dtype=torch.int64), positions={"mask": torch.tensor([0])})
    assert build("modern")(torch.zeros(1, 40, dtype=torch.int64))["mlm"].shape == (40, VOCAB)


def test_settings_that_do_not_fit_are_all_named():
    with pytest.raises(ConfigError) as error:
        EncoderConfig(width=128, heads=5, dropout=1.0)
    message = str(error.value)
    assert "model.heads: is 5, which does not divide model.width 128; expected a divisor, such as 4" in message
    assert "model.dropout: is 1.0" in message
    with pytest.raises(ConfigError, match="an even number"):
        EncoderConfig(width=12, heads=4, positions="rotary")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"first_norm": False}, "model.first_norm: is false, which has no effect here; expected model.norm pre"),
        ({"rotary_base": 500.0}, r"model.rotary_base: is 500.0, .*; expected model.positions rotary"),
        ({"local_window": 8}, "model.local_window: is 8, .*; expected model.global_every of 2 or more"),
        ({"global_every": 3}, "model.global_every: is 3, .*; expected a model.local_window"),
        ({"local_rotary_base": 500.0, "positions": "rotary"}, "model.local_rotary_base: is 500.0"),
        ({"global_every": 0}, "model.global_every: is 0; expected at least 1"),
        ({"segments": -1}, "model.segments: is -1; expected 0 or more"),
        ({"embedding_width": -1}, "model.embedding_width: is -1"),
        ({"local_window": -1}, "model.local_window: is -1"),
        ({"rotary_base": 0.0}, "model.rotary_base: is 0.0; expected more than 0"),
    ],
)
def test_settings_without_effect_or_sense(settings, message):
    with pytest.raises(ConfigError, match=message):
        EncoderConfig(**settings)


@pytest.mark.parametrize("kind", KINDS)
def test_depth_of_every_parameter(kind):
    model = build(kind)
    layers = len(model.layers)
    for name, _ in model.named_parameters():
        first, second = name.split(".")[:2]
        assert model.depth(name) == {"embeddings": 0, "layers": 1 + int(second) if first == "layers" else 0}.get(
            first, layers + 1
        )
    assert model.num_layers == layers and model.depth("layers.other.weight") == layers + 1


def test_depth_in_a_model_of_other_names():
    class Other(Model):
        def __init__(self):
            super().__init__()
            self.layers = 3
            self.body = torch.nn.Linear(2, 2)

    assert Other().num_layers == 0 and Other().depth("body.weight") == Other().depth("layers.0") == 1


def test_segments_reach_the_embeddings_and_nothing_else():
    tokens, segments = torch.randint(VOCAB, (2, 8)), torch.tensor([[0] * 4 + [1] * 4] * 2)
    model = build("electra", init_std=0.2)
    assert not torch.allclose(model(tokens, segments=segments)["mlm"], model(tokens)["mlm"])
    model = build()
    assert torch.equal(model(tokens, segments=segments)["mlm"], model(tokens)["mlm"])


def test_local_layers_do_not_look_far():
    """What lies further than all windows together changes nothing, until a layer is global."""
    for every, seen in ((8, False), (3, True)):
        model = build("local", global_every=every).eval()
        x = torch.randn(1, 16, 32)
        near = (local_mask(16, 6, None, x.device), rotary_angles(16, 8, x.device))
        far = (None, near[1])
        other = x.clone()
        other[0, 15] += 1
        for number, layer in enumerate(model.layers):
            x, other = (layer(part, *(near if (number + 1) % every else far)) for part in (x, other))
        assert torch.equal(x[0, 0], other[0, 0]) != seen


def test_heads_of_rows_and_tokens():
    heads = {"label": HeadSpec("row", 3), "tags": HeadSpec("token", 5), "mlm": HeadSpec("lm")}
    model = Encoder(EncoderConfig(layers=1, width=32, heads=4), vocab_size=VOCAB, max_length=LENGTH, heads=heads)
    tokens = torch.randint(VOCAB, (2, 8))
    outputs = model(tokens, positions={"tags": torch.tensor([1, 9])})
    shapes = {name: tuple(output.shape) for name, output in outputs.items()}
    assert shapes == {"label": (2, 3), "tags": (2, 5), "mlm": (16, VOCAB)}
    assert model(tokens)["tags"].shape == (16, 5)


def test_the_index_imports_no_torch():
    code = "import sys, taskmask.models, taskmask.modules.heads_spec; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
