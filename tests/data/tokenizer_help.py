"""Tokenizers of every kind, trained once on a few lines, and a thousand lines of many scripts."""

import functools
import json
import random
import unicodedata
from pydoc_data.topics import topics

from taskmask.tokenizer.tokenizer import Vocabulary, train_vocabulary

BRACKETS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ANGLES = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
LINES = [
    "The quick brown fox jumps over the lazy dog, unreasonably often.",
    "A reasonable dog isn't able to jump over an unable fox (really)!",
    "It's unbelievable: the dogs were jumping, the foxes were sleeping.",
    "我爱北京天安门，今天的天气很好。",
    "今日は天気がいいですね。カタカナも読みます。",
    "สวัสดีครับ วันนี้อากาศดีมาก",
    "مرحبا بالعالم، كيف حالك اليوم؟",
    "In 1984 the café cost 25 dollars; naïve people paid 30.",
] * 10
TEXT = [
    *LINES,
    *["Die schönen Häuser, Straßenbahnhaltestellen und Übergrößen!", "def f(x):\n    return x[0] + 1  # no",
      "smile 😀😀 dog", "हिन्दी में लिखा", "한국어 문장입니다"] * 10,
]  # fmt: skip
KINDS = ("wordpiece", "bytes", "unigram_json", "llama", "unigram", "bpe")
JSON_KINDS = KINDS[:4]

HAND_WRITTEN = [
    "The quick brown fox isn't lazy; it's 3.14159 of 1,000,000!",
    "Die Straßenbahn fährt über größere Brücken – „schön“, oder?",
    "我爱北京天安门，今天的天气很好。",
    "今日は天気がいいですね。カタカナも読みます。",
    "สวัสดีครับ วันนี้อากาศดีมาก",
    "مرحبا بالعالم، كيف حالك اليوم؟",
    "def f(x):    return {k: v for k, v in x.items() if k != 'a_b'}  # done",
    "smile 😀😀👩‍👩‍👧 🇩🇪 and on",
    "odd\u00a0spaces\u3000here\u2009and  there   ",
    "  leading and trailing  ",
    "हिन्दी में लिखा हुआ 한국어 문장입니다 Ünïcödé e\u0301 ﬁ ① ½",
    "a",
    " ",
    "",
    "\u200bzero\u200dwidth\ufeff",
]


@functools.cache
def lines(number=1000):
    """Hand-written lines, documentation of Python, and characters of every range, in words of random length."""
    rng = random.Random(0)
    docs = [" ".join(part.split()) for topic in topics.values() for part in topic.split("\n\n") if "▁" not in part]
    plain = [chr(code) for code in range(0x20, 0x20000) if unicodedata.category(chr(code))[0] not in "C"]
    plain = [character for character in plain if character != "▁"]
    made = list(HAND_WRITTEN)
    while len(made) < number:
        start = rng.randrange(len(plain) - 300)
        nearby = plain[start : start + 300] + list("aeiou ,.")
        made.append(" ".join("".join(rng.choices(nearby, k=rng.randint(1, 9))) for _ in range(8)))
        made.append(rng.choice(docs))
    return made[:number]


def _trained(model, pre_tokenizer, trainer, specials, normalizer=None, decoder=None, post_processor=None, **options):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer(model)
    tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.decoder = normalizer, pre_tokenizer, decoder
    trainer = trainer(special_tokens=specials, show_progress=False, **options)
    tokenizer.train_from_iterator(TEXT, trainer)
    if post_processor:
        tokenizer.post_processor = post_processor(tokenizer)
    return tokenizer


def wordpiece():
    """As BERT's."""
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

    return _trained(
        models.WordPiece(unk_token="[UNK]"), pre_tokenizers.BertPreTokenizer(), trainers.WordPieceTrainer, BRACKETS,
        normalizer=normalizers.BertNormalizer(lowercase=False), decoder=decoders.WordPiece(), vocab_size=420,
        post_processor=lambda made: processors.BertProcessing(
            ("[SEP]", made.token_to_id("[SEP]")), ("[CLS]", made.token_to_id("[CLS]"))
        ),
    )  # fmt: skip


def byte_level():
    """As RoBERTa's."""
    from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors, trainers

    specials = [*ANGLES[:4], AddedToken("<mask>", lstrip=True)]
    return _trained(
        models.BPE(), pre_tokenizers.ByteLevel(add_prefix_space=False), trainers.BpeTrainer, specials,
        decoder=decoders.ByteLevel(), vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        post_processor=lambda made: processors.RobertaProcessing(
            ("</s>", made.token_to_id("</s>")), ("<s>", made.token_to_id("<s>")), add_prefix_space=False
        ),
    )  # fmt: skip


def unigram_json():
    """As XLM-R's."""
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

    return _trained(
        models.Unigram(), pre_tokenizers.Metaspace(), trainers.UnigramTrainer, ANGLES, unk_token="<unk>",
        vocab_size=500, normalizer=normalizers.NFKC(), decoder=decoders.Metaspace(),
        post_processor=lambda made: processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>",
            special_tokens=[(name, made.token_to_id(name)) for name in ("<s>", "</s>")],
        ),
    )  # fmt: skip


def llama():
    """BPE with spaces as pieces and bytes for what is unknown; no mask, no padding."""
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = _trained(
        models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True), pre_tokenizers.Metaspace(),
        trainers.BpeTrainer, ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))], vocab_size=600,
        limit_alphabet=120, decoder=decoders.Metaspace(),
    )  # fmt: skip
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if not token["content"].startswith("<0x")]
    return type(tokenizer).from_str(json.dumps(content))


MAKERS = {"wordpiece": wordpiece, "bytes": byte_level, "unigram_json": unigram_json, "llama": llama}


@functools.cache
def vocabulary_of(kind):
    """The vocabulary of one of `KINDS`."""
    if kind in MAKERS:
        return Vocabulary(MAKERS[kind]().to_str().encode(), kind)
    return Vocabulary(train_vocabulary(TEXT, 420 if kind == "unigram" else 700, kind, character_coverage=0.98))
