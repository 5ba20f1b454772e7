"""Writes a checkpoint as a GGUF file like any other, reads it back, and measures and shows what was read.

    python export.py --out ../crates/cli/assets/stories.gguf

The check runs the weights as the file holds them (rounded to Q8_0, then widened), so it is the file that is judged.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
from tokenizers import Tokenizer

from model import Config, Model, generate
from prepare import BOS_ID
from train import evaluate, load_rows

HERE = Path(__file__).parent
MAX_BYTES = 8_000_000
PROMPTS = ["Once upon a time", "Lily and Tom went to the park", "One day, a little dog"]


def write(path: Path, model: Model, tokenizer_path: Path) -> None:
    """Writes matrices as Q8_0 and norms as F32, with the tokenizer. The parameters already bear GGUF's names."""
    c = model.c
    out = GGUFWriter(path, "llama")
    out.add_name("Troika Stories")
    out.add_description("A demonstration: continues short children's stories in English.")
    out.add_author("The Troika authors")
    out.add_license("Apache-2.0 OR MIT")
    out.add_languages(["en"])
    out.add_size_label(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f}M")
    out.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    out.add_quantization_version(gguf.GGML_QUANT_VERSION)
    out.add_context_length(c.n_ctx)
    out.add_embedding_length(c.n_embd)
    out.add_block_count(c.n_layer)
    out.add_feed_forward_length(c.n_ff)
    out.add_head_count(c.n_head)
    out.add_head_count_kv(c.n_head_kv)
    out.add_rope_dimension_count(c.head_dim)
    out.add_rope_freq_base(c.rope_base)
    out.add_layer_norm_rms_eps(c.norm_eps)
    out.add_vocab_size(c.n_vocab)
    write_tokenizer(out, tokenizer_path)
    for name, parameter in model.named_parameters():
        weight = parameter.detach().float().numpy()
        if weight.ndim == 2:
            kind = GGMLQuantizationType.Q8_0
            out.add_tensor(name, gguf.quantize(weight, kind), raw_dtype=kind)
        else:
            out.add_tensor(name, weight)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def write_tokenizer(out: GGUFWriter, path: Path) -> None:
    """Byte-level BPE as GGUF keeps it: pieces in GPT-2's alphabet in id order, merges in rank order."""
    spec = json.loads(path.read_text())["model"]
    pieces = sorted(spec["vocab"], key=spec["vocab"].__getitem__)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list(pieces)
    out.add_token_types([gguf.TokenType.CONTROL if i == BOS_ID else gguf.TokenType.NORMAL for i in range(len(pieces))])
    out.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in spec["merges"]])
    out.add_bos_token_id(BOS_ID)
    out.add_eos_token_id(BOS_ID)
    out.add_add_bos_token(True)
    out.add_add_eos_token(False)


def read(path: Path, config: Config) -> Model:
    """The model as the file holds it, every tensor widened to F32."""
    state = {}
    for tensor in GGUFReader(path).tensors:
        weight = gguf.dequantize(tensor.data, tensor.tensor_type)
        state[tensor.name] = torch.from_numpy(np.array(weight, dtype=np.float32))
    model = Model(config)
    model.load_state_dict(state)
    return model.eval()


def main() -> None:
    """Exports, then prints size, held-out loss before and after rounding, and samples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=HERE / "work")
    parser.add_argument("--checkpoint", type=Path, help="work/best.pt unless given")
    parser.add_argument("--out", type=Path, default=HERE.parent / "crates/cli/assets/stories.gguf")
    parser.add_argument("--n-predict", type=int, default=300)
    args = parser.parse_args()

    torch.set_num_threads(1)
    checkpoint = torch.load(args.checkpoint or args.work / "best.pt", weights_only=True)
    config = Config(**checkpoint["config"])
    trained = Model(config)
    trained.load_state_dict(checkpoint["model"])
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write(args.out, trained, args.work / "tokenizer.json")
    size = args.out.stat().st_size
    assert size <= MAX_BYTES, f"{args.out} has {size} bytes, at most {MAX_BYTES} may be embedded"

    model = read(args.out, config)
    val = load_rows(args.work / "val.npy", config.n_ctx)
    print(f"{args.out.name}: {size} bytes, {sum(p.numel() for p in model.parameters())} parameters, step {checkpoint['step']}")
    print(f"held-out loss: {evaluate(trained, val):.4f} in F32, {evaluate(model, val):.4f} as in the file")
    tokenizer = Tokenizer.from_file(str(args.work / "tokenizer.json"))
    model.eval()
    for prompt in PROMPTS:
        ids = [BOS_ID, *tokenizer.encode(prompt).ids]
        for temperature in (0.0, 0.8):
            more = generate(model, ids, args.n_predict, BOS_ID, temperature)
            end = "" if len(more) < args.n_predict else " [...]"
            print(f"\n--- temperature {temperature}, {len(more)} tokens\n{prompt}{tokenizer.decode(more)}{end}")


if __name__ == "__main__":
    main()
