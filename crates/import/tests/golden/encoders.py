"""Writes what Hugging Face's transformers compute for tiny models that give vectors.

    python encoders.py            # all
    python encoders.py nomic-bert # some

As `make.py`, whose weights these are; `golden.json` holds a vector for each of some texts, pooled and of length 1. BERT and
Nomic BERT have a WordPiece vocabulary of their own, and beside it the tokens that Hugging Face's tokenizers make of some
texts. One BERT is cased, and saved with the head that guesses masked words.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors import safe_open
from safetensors.numpy import save_file

from make import HERE, LLAMA, VOCAB, WORDS, kind, weights

LENGTHS = [1, 7, 40, 100]
NOMIC = dict(
    vocab_size=VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
    max_position_embeddings=512, type_vocab_size=2, layer_norm_eps=1e-12, hidden_act="silu",
    rope_parameters=dict(rope_type="default", rope_theta=1000.0), pad_token_id=0)
BERT = dict(
    vocab_size=VOCAB, hidden_size=64, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4,
    max_position_embeddings=128, type_vocab_size=2, layer_norm_eps=1e-12, hidden_act="gelu", pad_token_id=0)
MODELS = {
    "qwen3-embedding": ("Qwen3Config", LLAMA | dict(head_dim=32, tie_word_embeddings=True), "lasttoken"),
    "nomic-bert": ("NomicBertConfig", NOMIC, "mean_tokens"),
    "bert": ("BertConfig", BERT, "mean_tokens"),
    "bert-cls": ("BertConfig", BERT, "cls_token"),
}
CASED = "bert-cls"
MODES = ["cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"]
TEXTS = ["The cat sat on the mat.", "  HERS, was\u00e9 she's\n(not) 2026", "unknown\u4e2d\U0001f600", "the [unused0]", ""]


def wordpiece(out, lowercase):
    """Letters at the beginning of a word and within one, and a few words and ends of words."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *".,!?'()-0123456789"]
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces += [*letters, *("##" + letter for letter in letters), *("##" + digit for digit in "0123456789")]
    pieces += [word for word in WORDS if len(word) > 1] + ["##ing", "##ed", "##ers", "##at", "[unused0]"]
    special = [dict(id=i, content=c, special=True, single_word=False, lstrip=False, rstrip=False, normalized=False)
               for i, c in enumerate(pieces[:5])]
    step = lambda name: {"SpecialToken": dict(id=name, type_id=0)}
    ids = lambda name: dict(id=name, ids=[pieces.index(name)], tokens=[name])
    json_file = dict(
        version="1.0", truncation=None, padding=None, added_tokens=special,
        normalizer=dict(type="BertNormalizer", clean_text=True, handle_chinese_chars=True, strip_accents=None,
                        lowercase=lowercase),
        pre_tokenizer=dict(type="BertPreTokenizer"),
        post_processor=dict(type="TemplateProcessing", pair=[step("[CLS]"), dict(Sequence=dict(id="A", type_id=0)),
                                                             step("[SEP]")],
                            single=[step("[CLS]"), dict(Sequence=dict(id="A", type_id=0)), step("[SEP]")],
                            special_tokens={name: ids(name) for name in ("[CLS]", "[SEP]")}),
        decoder=dict(type="WordPiece", prefix="##", cleanup=True),
        model=dict(type="WordPiece", unk_token="[UNK]", continuing_subword_prefix="##", max_input_chars_per_word=100,
                   vocab={piece: i for i, piece in enumerate(pieces)}))
    (out / "tokenizer.json").write_text(json.dumps(json_file, indent=None) + "\n")
    (out / "tokenizer_config.json").write_text(json.dumps(dict(
        cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]", pad_token="[PAD]", mask_token="[MASK]",
        tokenizer_class="BertTokenizer", do_lower_case=lowercase)) + "\n")
    loaded = transformers.PreTrainedTokenizerFast(tokenizer_file=str(out / "tokenizer.json"))
    pairs = [[text, loaded(text).input_ids] for text in TEXTS]
    (out / "tokens.json").write_text(json.dumps(pairs) + "\n")
    assert len(set(pieces)) == len(pieces) <= VOCAB, len(pieces)


def pool(hidden, mode):
    """One vector of length 1: of the first token, of the last, or of the mean."""
    vector = dict(cls_token=hidden[0], lasttoken=hidden[-1], mean_tokens=hidden.mean(0))[mode]
    return vector / vector.norm()


def spread(name, key, shape):
    """As `kind`, with what encoders call their norms, queries and keys."""
    if key.endswith(("ln.weight", "LayerNorm.weight")):
        return 1.0, 0.2
    if key.endswith(".bias"):
        return 0.0, 0.3
    if key.endswith(("self.query.weight", "self.key.weight")):
        return 0.0, 1.5 * shape[-1] ** -0.5
    return kind(name, key, shape)


def make(name):
    config_name, flags, mode = MODELS[name]
    config = getattr(transformers, config_name)(**flags)
    out = HERE / name
    out.mkdir(exist_ok=True)
    if "bert" in name:
        wordpiece(out, name != CASED)
    auto = transformers.AutoModelForMaskedLM if name == CASED else transformers.AutoModel
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        auto.from_config(config, dtype=torch.float32).save_pretrained(scratch)
        with safe_open(scratch / "model.safetensors", "np") as file:
            shapes = {key: list(file.get_slice(key).get_shape()) for key in sorted(file.keys())}
        tensors = {key: dict(shape=shape, kind=spread(name, key, shape)) for key, shape in shapes.items()}
        values = {k: weights(0, k, t["shape"], *t["kind"]) for k, t in tensors.items()}
        save_file(values, scratch / "model.safetensors", metadata=dict(format="pt"))
        model = auto.from_pretrained(scratch, dtype=torch.float32, attn_implementation="eager").eval().base_model
        shutil.copy(scratch / "config.json", out / "config.json")
    (out / "1_Pooling").mkdir(exist_ok=True)
    pooling = {f"pooling_mode_{other}": other == mode for other in MODES}
    (out / "1_Pooling/config.json").write_text(json.dumps(pooling | dict(word_embedding_dimension=64)) + "\n")
    of = "sentence_transformers.models."
    modules = [dict(idx=0, name="0", path="", type=of + "Transformer"),
               dict(idx=1, name="1", path="1_Pooling", type=of + "Pooling"),
               dict(idx=2, name="2", path="2_Normalize", type=of + "Normalize")]
    (out / "modules.json").write_text(json.dumps(modules) + "\n")
    texts = [[(7 + 31 * i + i * i + 5 * n) % 120 for i in range(n)] for n in LENGTHS]
    with torch.no_grad():
        vectors = [pool(model(torch.tensor([text])).last_hidden_state[0], mode) for text in texts]
    print(name, [float(vectors[0] @ other) for other in vectors[1:]], flush=True)
    golden = dict(seed=0, tensors=tensors, texts=texts,
                  vectors=[[round(float(x), 7) for x in vector] for vector in vectors])
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in golden.items()]
    (out / "golden.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    for name in sys.argv[1:] or MODELS:
        make(name)
