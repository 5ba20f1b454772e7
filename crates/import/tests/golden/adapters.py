"""Writes what PEFT computes for the tiny models of `make.py` with LoRA adapters over them.

    python adapters.py        # all
    python adapters.py llama  # some

Wants what `make.py` wants, and `peft`. The adapters' weights are a hash of their names and indices as the models' are: a
directory `adapter-NAME` holds `adapter_config.json` as PEFT writes it, and `golden.json`.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.numpy import save_file

from make import HERE, PROMPT, greedy, weights, write

ADAPTERS = {
    "llama": dict(r=6, lora_alpha=12, target_modules=[
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"]),
    "qwen3": dict(r=4, lora_alpha=6, use_rslora=True, target_modules=["q_proj", "k_proj", "o_proj", "down_proj"]),
    "phi3": dict(r=1, lora_alpha=1, target_modules=["qkv_proj", "gate_up_proj"]),
}


def base(name, scratch):
    """The model as the test makes it."""
    golden = json.loads((HERE / name / "golden.json").read_text())
    values = {k: weights(golden["seed"], k, t["shape"], *t["kind"]) for k, t in golden["tensors"].items()}
    save_file(values, scratch / "model.safetensors", metadata=dict(format="pt"))
    shutil.copy(HERE / name / "config.json", scratch)
    return transformers.AutoModelForCausalLM.from_pretrained(
        scratch, dtype=torch.float32, attn_implementation="eager").eval()


def make(name):
    out = HERE / f"adapter-{name}"
    out.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        adapter = scratch / "adapter"
        fresh = get_peft_model(base(name, scratch), LoraConfig(task_type="CAUSAL_LM", **ADAPTERS[name]))
        # Else it saves the matrix of the scores beside the pair that changes it.
        fresh.save_pretrained(adapter, save_embedding_layers=False)
        with safe_open(adapter / "adapter_model.safetensors", "np") as file:
            shapes = {key: list(file.get_slice(key).get_shape()) for key in sorted(file.keys())}
        # Enough to change the answer, and not so much that f16 keys would show.
        spread = {key: shape[1] ** -0.5 if "lora_A" in key else 0.05 for key, shape in shapes.items()}
        tensors = {key: dict(shape=shape, kind=[0.0, spread[key]]) for key, shape in shapes.items()}
        prompt = [(7 + 31 * i + i * i) % 256 for i in range(PROMPT)]
        best = (-1.0,)
        for seed in range(12):
            values = {k: weights(seed, k, t["shape"], *t["kind"]) for k, t in tensors.items()}
            save_file(values, adapter / "adapter_model.safetensors", metadata=dict(format="pt"))
            plain = base(name, scratch)
            with torch.no_grad():
                without = plain(torch.tensor([prompt]), use_cache=False).logits[0]
                model = PeftModel.from_pretrained(plain, adapter).eval()
                answer, margin = greedy(lambda ids, **flags: model(input_ids=ids, **flags), prompt)
                logits = model(input_ids=torch.tensor([prompt]), use_cache=False).logits[0]
            if len(best) == 1 or (len(set(answer)) > 12 and margin > best[0]):
                best = (margin, seed, answer, logits)
            if best[0] > 0.003:
                break
        margin, seed, answer, logits = best
        changed = float((logits - without).abs().max() / without.abs().max())
        print(name, "seed", seed, "margin", margin, "distinct", len(set(answer)), "changed by", changed, flush=True)
        config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = None
    (out / "adapter_config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    write(out, seed, tensors, prompt, logits, answer)


for name in sys.argv[1:] or ADAPTERS:
    make(name)
