"""Records what llama.cpp's llama-quantize makes of small models, for tests/golden.rs (llama-cpp-python 0.3.36).

    bench/build-peer DIR --target llama-quantize
    pip install gguf && python generate.py DIR/bin/llama-quantize

Writes types.txt, `MODEL MIX TYPE*COUNT ...` with the types of all tensors in the order of the source, and weights.txt, `MIX TENSOR TYPE HASH ERROR`: the
64-bit FNV-1a hash of the tensor's bytes and its relative squared error. tests/golden.rs makes the same models.
"""

import itertools
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np

HERE = Path(__file__).parent
MIXES = """F16 Q4_0 Q4_1 Q8_0 Q5_0 Q5_1 Q2_K Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K
IQ4_NL IQ4_XS TQ1_0 TQ2_0 BF16 MXFP4_MOE""".split()
WRITTEN = "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K_S Q4_K_S Q4_K_M Q5_K_S Q6_K".split()

# name: (n_layer, n_embd, n_ff, n_head, n_head_kv, n_expert, tied)
MODELS = {
    "shared": (16, 256, 512, 4, 1, 0, False),
    "apart": (9, 256, 256, 2, 2, 0, True),
    "narrow": (8, 64, 96, 2, 1, 0, True),
    "experts": (8, 256, 256, 4, 2, 8, False),
    "weights": (2, 256, 256, 4, 2, 0, False),
}
N_VOCAB = 64


def tensors(n_layer, n_embd, n_ff, n_head, n_head_kv, n_expert, tied):
    """Names and shapes, row length first."""
    kv = n_embd // n_head * n_head_kv
    yield "token_embd.weight", (n_embd, N_VOCAB)
    for layer in range(n_layer):
        block = f"blk.{layer}."
        yield block + "attn_norm.weight", (n_embd,)
        yield block + "attn_q.weight", (n_embd, n_embd)
        yield block + "attn_k.weight", (n_embd, kv)
        yield block + "attn_v.weight", (n_embd, kv)
        yield block + "attn_output.weight", (n_embd, n_embd)
        yield block + "ffn_norm.weight", (n_embd,)
        if n_expert:
            yield block + "ffn_gate_inp.weight", (n_embd, n_expert)
            yield block + "ffn_gate_exps.weight", (n_embd, n_ff, n_expert)
            yield block + "ffn_up_exps.weight", (n_embd, n_ff, n_expert)
            yield block + "ffn_down_exps.weight", (n_ff, n_embd, n_expert)
        else:
            yield block + "ffn_gate.weight", (n_embd, n_ff)
            yield block + "ffn_up.weight", (n_embd, n_ff)
            yield block + "ffn_down.weight", (n_ff, n_embd)
    yield "output_norm.weight", (n_embd,)
    if not tied:
        yield "output.weight", (n_embd, N_VOCAB)


def weights(index, count):
    """Close to normal, with a few that stick out; exact in f32, so that every program makes the same."""
    i = np.arange(count, dtype=np.uint64) + np.uint64(index << 32)
    total = np.zeros(count, dtype=np.int64)
    for k in range(4):
        x = i * np.uint64(0x9E3779B97F4A7C15) + np.uint64(k * 0x632BE59BD9B4E019 % 2**64)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        total += (x >> np.uint64(44)).astype(np.int64) - (1 << 19)
    total[i % np.uint64(97) == 0] *= 3
    return (total.astype(np.float32) / np.float32(1 << 24)).astype(np.float32)


def write(path, model):
    n_layer, n_embd, n_ff, n_head, n_head_kv, n_expert, tied = MODELS[model]
    out = gguf.GGUFWriter(path, "llama")
    out.add_block_count(n_layer)
    out.add_context_length(128)
    out.add_embedding_length(n_embd)
    out.add_feed_forward_length(n_ff)
    out.add_head_count(n_head)
    out.add_head_count_kv(n_head_kv)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_rope_dimension_count(n_embd // n_head)
    out.add_file_type(0)
    if n_expert:
        out.add_expert_count(n_expert)
        out.add_expert_used_count(2)
    out.add_tokenizer_model("no_vocab")
    out.add_vocab_size(N_VOCAB)
    for index, (name, shape) in enumerate(tensors(*MODELS[model])):
        count = int(np.prod(shape))
        data = weights(index, count) if model == "weights" else np.zeros(count, dtype=np.float32)
        if model != "weights" and len(shape) > 1:
            data[0] = 1.0
        out.add_tensor(name, data.reshape(shape[::-1]))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def fnv(data):
    hash = 0xCBF29CE484222325
    for byte in data:
        hash = (hash ^ byte) * 0x100000001B3 % 2**64
    return hash


def quantized(peer, source, mix, directory):
    path = directory / "out.gguf"
    subprocess.run([peer, source, path, mix, "2"], check=True, capture_output=True)
    return gguf.GGUFReader(path).tensors


def main(peer):
    types, hashes = [], []
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        for model in MODELS:
            source = directory / f"{model}.gguf"
            write(source, model)
            order = [tensor.name for tensor in gguf.GGUFReader(source).tensors]
            for mix in MIXES:
                found = {t.name: t.tensor_type.name for t in quantized(peer, source, mix, directory)}
                runs = itertools.groupby(found[name] for name in order)
                runs = " ".join(f"{name}*{len(list(run))}" for name, run in runs)
                types.append(f"{model} {mix} {runs}")
        source = directory / "weights.gguf"
        exact = {t.name: t.data.astype(np.float64).ravel() for t in gguf.GGUFReader(source).tensors}
        for mix in WRITTEN:
            for tensor in quantized(peer, source, mix, directory):
                if tensor.tensor_type.name == "F32":
                    continue
                x = exact[tensor.name]
                back = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float64).ravel()
                error = ((x - back) ** 2).sum() / (x**2).sum()
                row = tensor.tensor_type.name, fnv(tensor.data.tobytes()), error
                hashes.append(f"{mix} {tensor.name} {row[0]} {row[1]:016x} {row[2]:.6e}")
    (HERE / "types.txt").write_text("\n".join(types) + "\n")
    (HERE / "weights.txt").write_text("\n".join(hashes) + "\n")


main(sys.argv[1])
