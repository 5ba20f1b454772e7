#!/usr/bin/env python3
"""Turns llmfit's published measurements into the rows that the cost model is fitted on.

Reads the `data` directory of the crate llmfit-core (MIT): `benchmark_cache.json`, rows of a public leaderboard;
`community/`, results that users sent in; `hf_models.json`, shapes of models. Writes `rows.csv`: one measurement a row, with
the model's shape, so that the fit needs nothing else but the catalogue.

What is left out, and why: several devices, speculative decoding, runs that say that some layers stayed on the processor,
models whose shape or quantization is not known, and test models too small to measure a chip.

usage: fit/rows.py PATH/TO/llmfit-core/data > fit/rows.csv

Needs Python 3.9 and nothing else.
"""

import csv
import glob
import json
import re
import sys
from collections import Counter
from pathlib import Path

# --- Quantizations ------------------------------------------------------------------------------------------------------

FORMAT = (
    r"(?:UD-)?(?:IQ\d_(?:XXS|XS|S|M|NL|XL)|Q\d_K_(?:XXL|XL|[SMLP])|Q\d_K|Q\d_\d|MXFP4(?:_MOE)?|NVFP4|BF16|F16|F32|FP8|"
    r"[34568]bit|mxfp8)"
)
QUANTIZATION_AT_END = re.compile(rf"(?:[-_. ](?:UD|i1))?[-_.: ]({FORMAT})(?:[-_.]?gguf)?$", re.I)
KNOWN = re.compile(rf"^(?:{FORMAT}|fp16|AWQ|MLX-[48]bit)$", re.I)


def split_quantization(name):
    """`Qwen3-8B-Q4_K_M.gguf` -> (`Qwen3-8B`, `Q4_K_M`)."""
    name = re.sub(r"\.gguf$", "", name, flags=re.I)
    match = QUANTIZATION_AT_END.search(name)
    return (name[: match.start()], match[1]) if match else (name, None)


# --- Shapes -------------------------------------------------------------------------------------------------------------

# Repositories whose parameter counts are those of packed weights.
PACKED = re.compile(r"mlx|awq|gptq|bnb|nvfp4|fp8|[48]-?bit|int[48]|exl|w4a16|unquantized", re.I)
PACKAGING = re.compile(
    r"[-_]?(?:gguf|mlx|mtp|hf|awq|gptq|[48]bit|int[48]|nvfp4|fp8|qat|autoround|bf16|w4a16)(?![a-z0-9])", re.I
)
MAKERS = (
    "qwen meta-llama google openai liquidai mistralai microsoft ibm-granite huggingfacetb deepseek-ai nvidia tiiuae "
    "allenai coherelabs zai-org thudm internlm 01-ai stabilityai tinyllama unsloth lmstudio-community bartowski"
).split()
ENDINGS = (
    "instruct it chat base pt instruct2507 2507 thinking thinking2507 instruct2512 reasoning v01 v02 v03 preview "
    "mini4kinstruct 4kinstruct 128kinstruct"
).split()
# Names of Ollama's that do not follow from the model's own.
TAGS = {
    "deepseek-r1:7b": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
    "deepseek-r1:14b": "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B",
    "deepseek-r1:32b": "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B",
    "deepseek-r1:8b": "Qwen/Qwen3-8B",
    "gemma4:26b": "google/gemma-4-26B-A4B-it",
    "gemma4:e4b": "google/gemma-4-E4B-it",
    "gemma4:latest": "google/gemma-4-E4B-it",
    "qwen3-coder:30b": "Qwen/Qwen3-Coder-30B-A3B-Instruct",
    "phi4": "microsoft/phi-4",
    "ministral-3:3b": "unsloth/Ministral-3-3B-Instruct-2512",
    "ministral-3:8b": "unsloth/Ministral-3-8B-Instruct-2512",
    "ministral-3:14b": "unsloth/Ministral-3-14B-Instruct-2512",
    "devstral:24b": "mistralai/Mistral-Small-24B-Instruct-2501",
    "hermes3:8b": "unsloth/Meta-Llama-3.1-8B-Instruct",
    "lfm2.5:8b": "LiquidAI/LFM2-8B-A1B",
    "qwen3.6:35b": "Qwen/Qwen3.6-35B-A3B",
    "qwen3.5:35b": "Qwen/Qwen3.5-35B-A3B",
    "qwen3.6:27b": "Qwen/Qwen3.6-27B",
    "gpt-oss:20b": "openai/gpt-oss-20b",
    "gpt-oss:120b": "openai/gpt-oss-120b",
    "llama3.2:3b": "unsloth/Llama-3.2-3B-Instruct",
    "llama3.2:1b": "unsloth/Llama-3.2-1B-Instruct",
    "llama3.1:8b": "unsloth/Meta-Llama-3.1-8B-Instruct",
}
TIED = re.compile(
    r"gemma|lfm2|smollm|llama-3\.2|qwen3-[014]|qwen2\.5-(?:0|1|3)|qwen3\.5-[024]|granite|phi-4-mini|command|aya", re.I
)
# Layers of these are unlike what the columns can tell: state spaces, and latent attention whose ranks are not given.
UNCLEAR = ("nemotron_h", "jamba", "mamba", "rwkv", "falcon_h1", "deepseek_v")
# Parameters that a token uses, where the file has more: tables by layer that are looked up.
ACTIVE = {"gemma-4-e2b": 2.3e9, "gemma-4-e4b": 4.5e9, "gemma-3n-e2b": 1.9e9, "gemma-3n-e4b": 3.8e9}


def letters(name):
    return re.sub(r"[^a-z0-9]", "", name.lower())


class Models:
    """Shapes by name: of repositories, files and tags."""

    def __init__(self, entries):
        entries = [e for e in entries if e.get("num_hidden_layers") and e.get("hidden_size")]
        self.whole = {e["name"].lower(): e for e in entries}
        ranked = {}
        for entry in entries:
            maker, _, tail = entry["name"].partition("/")
            if PACKED.search(entry["name"]):
                continue
            key = letters(PACKAGING.sub("", split_quantization(PACKAGING.sub("", tail))[0]))
            rank = MAKERS.index(maker.lower()) if maker.lower() in MAKERS else len(MAKERS)
            if key not in ranked or rank < ranked[key][0]:
                ranked[key] = (rank, entry)
        self.ranked = {key: entry for key, (_, entry) in ranked.items()}

    def find(self, name):
        lower = name.lower()
        tag = re.sub(r"-(mlx|q4_k_m|instruct.*|\d+k)$", "", lower)
        if tag in TAGS:
            return self.whole.get(TAGS[tag].lower())
        if lower in self.whole and not PACKED.search(lower):
            return self.whole[lower]
        plain = split_quantization(PACKAGING.sub("", split_quantization(name.split("/")[-1])[0]))[0]
        names = [plain]
        with_maker = re.match(r"^[A-Za-z0-9-]+_(.+)$", plain)
        if with_maker:
            names.append(with_maker[1])
        names += [re.sub(r":latest$", "", n).replace(":", "-") for n in names]
        for key in map(letters, names):
            for stem in [key] + [key[: -len(e)] for e in ENDINGS if key.endswith(e)]:
                for ending in [""] + ENDINGS:
                    if stem + ending in self.ranked:
                        return self.ranked[stem + ending]
        return None


def shape(entry):
    """The columns that describe a model, or None where they would mislead."""
    architecture = entry.get("architecture") or ""
    params = entry.get("parameters_raw") or 0
    if params < 2e8 or any(name in architecture for name in UNCLEAR):
        return None
    heads = entry.get("num_attention_heads") or entry["hidden_size"] // 128
    moe = bool(entry.get("is_moe")) and (entry.get("num_experts") or 0) > 1
    if moe and not entry.get("moe_intermediate_size"):
        return None
    memory = "full"
    if any(name in architecture for name in ("qwen3_5", "qwen3_next")):
        memory = "linear:4"
    elif "lfm2" in architecture:
        memory = "conv:3"
    elif any(name in architecture for name in ("gemma3", "gemma4")):
        memory = "window:1024:6"
    elif "gemma2" in architecture:
        memory = "window:4096:2"
    elif "gpt_oss" in architecture:
        memory = "window:128:2"
    name = entry["name"].lower()
    tied = bool(TIED.search(entry["name"]))
    head_dim = entry.get("head_dim") or entry["hidden_size"] // heads
    heads_kv = entry.get("num_key_value_heads") or heads
    # The width of the feed-forward layers is not given; it is what the other parameters leave.
    attention = 2 * entry["hidden_size"] * head_dim * (heads + heads_kv) * entry["num_hidden_layers"]
    tables = (1 if tied else 2) * (entry.get("vocab_size") or 100_000) * entry["hidden_size"]
    rest = max(params - tables - attention, 0)
    active = next((n for part, n in ACTIVE.items() if part in name), params)
    return {
        "model": entry["name"],
        "architecture": architecture,
        "params": int(params),
        "params_active": int(min(active, params)),
        "n_layer": entry["num_hidden_layers"],
        "n_embd": entry["hidden_size"],
        "n_head": heads,
        "n_head_kv": heads_kv,
        "head_dim": head_dim,
        "n_ff": 0 if moe else round(rest / (3 * entry["hidden_size"] * entry["num_hidden_layers"])),
        "n_vocab": entry.get("vocab_size") or 100_000,
        "tied": int(tied),
        "experts": entry["num_experts"] if moe else 0,
        "experts_active": entry["active_experts"] if moe else 0,
        "expert_n_ff": entry["moe_intermediate_size"] if moe else 0,
        "shared_n_ff": (entry.get("shared_expert_intermediate_size") or 0) if moe else 0,
        "memory": memory,
    }


# --- Devices ------------------------------------------------------------------------------------------------------------

# Directories of `community/` whose name does not say which chip it is.
COMMUNITY = {
    "amd-radeon-780m-graphics": "Radeon 780M",
    "apple-m3-max": "Apple M3 Max (30-core GPU)",
    "apple-m5-pro": "Apple M5 Pro",
    "intel-arc-graphics-130v-140v-integrated": "Arc 140V",
    "intel-r-arc-tm-b390-gpu": "Arc B390",
    "radeon-ai-pro-r9700": "Radeon AI PRO R9700",
    "tesla-t4": "Tesla T4",
}
# Names under which several chips hide, or processors with a small GPU whose part in the work is not known.
AMBIGUOUS = re.compile(
    r"^(amd-gpu|amd-ati|intel-(raptor|alder|coffee|3rd)|intel-r-iris|radeon-(680m|840m|rx-7900-xt-7900)|nvidia-.*max-q)"
)


def community_device(directory):
    if AMBIGUOUS.match(directory):
        return None
    return COMMUNITY.get(directory) or directory.replace("-", " ")


def leaderboard_device(hardware):
    if hardware["gpuCount"] != 1:
        return None
    text = " ".join(str(hardware.get(k) or "") for k in ("gpuName", "chipFamily", "chipVariant"))
    if hardware["hwClass"] == "DISCRETE_GPU":
        return hardware["gpuName"]
    if hardware["hwClass"] == "UNIFIED":
        chip = re.search(r"M[1-5]", text)
        variant = re.search(r"Max|Pro|Ultra", text)
        if chip:
            return f"Apple {chip[0]}" + (f" {variant[0]}" if variant else "")
    return None


# --- Rows ---------------------------------------------------------------------------------------------------------------

SPECULATIVE = re.compile(r"spec|mtp|draft|eagle|dflash|medusa", re.I)
# Variants that a user made to try out how many layers to offload.
TRIALS = re.compile(r"agent|hv-cpu")


def community_rows(data, models, dropped):
    for path in sorted(glob.glob(str(data / "community/*/*.json"))):
        report = json.loads(Path(path).read_text())
        device = community_device(Path(path).parent.name)
        hardware = report["hardware"]
        if device is None or hardware["gpuCount"] != 1:
            dropped["device"] += len(report["results"])
            continue
        for result in report["results"]:
            tag = result["model"]
            entry = None if TRIALS.search(tag) else models.find(tag)
            columns = entry and shape(entry)
            if not columns:
                dropped["model"] += 1
                continue
            named = split_quantization(tag.split("/")[-1])[1]
            in_tag = re.search(r"[:-](q\d_k_[sml]|q\d_\d|fp16|q8_0|nvfp4|mxfp8)$", tag.lower())
            engine = {"llamacpp": "llama.cpp"}.get(result["provider"], result["provider"])
            by_default = "4bit" if "mlx" in tag.lower() or engine == "mlx" else "Q4_K_M"
            if "gpt_oss" in columns["architecture"]:
                by_default = "MXFP4"
            yield {
                "device": device,
                "engine": engine,
                "backend": "",
                **columns,
                "quant": named or (in_tag and in_tag[1].upper()) or by_default,
                # The questions of the tool's own benchmark are this long.
                "prompt_tokens": 150,
                "gen_tokens": round(result["avgOutputTokens"]),
                "decode_tps": result["avgTps"],
                "prefill_tps": "",
                "memory_gb": hardware.get("memTierGb") or "",
                "who": f"{device}/{hardware['cpu']}/{hardware.get('ramGb')}",
                "set": "community",
            }


def leaderboard_rows(data, models, dropped):
    presets = json.loads((data / "benchmark_cache.json").read_text())["presets"].values()
    rows = {row["id"]: row for preset in presets for row in (preset["rows"] if isinstance(preset, dict) else preset)}
    for row in rows.values():
        device, flags, engine = leaderboard_device(row["hardware"]), row["engineFlags"], row["engine"]
        told = f"{row.get('notes') or ''} {flags.get('commandSnippet') or ''}"
        if device is None:
            dropped["device"] += 1
            continue
        if any(flags.get(k) for k in ("specDecoding", "mtpEnabled", "specMethod")) or SPECULATIVE.search(told):
            dropped["speculative"] += 1
            continue
        name = row["model"]["hfId"] or ""
        entry = models.find(name) or models.find((row["model"].get("baseModel") or {}).get("hfId") or "")
        columns = entry and shape(entry)
        if not columns:
            dropped["model"] += 1
            continue
        layers_on_gpu = str(flags.get("gpuLayers"))
        if layers_on_gpu.isdigit() and int(layers_on_gpu) < columns["n_layer"]:
            dropped["partial offload"] += 1
            continue
        quant = "MXFP4" if "gpt_oss" in columns["architecture"] else engine["quantization"] or "Q4_K_M"
        if not KNOWN.match(quant):
            dropped["quantization"] += 1
            continue
        yield {
            "device": device,
            "engine": engine["engineName"],
            "backend": engine["backend"] or "",
            **columns,
            "quant": quant,
            "prompt_tokens": row["promptTokens"] or 0,
            "gen_tokens": row["outputTokens"] or 128,
            "decode_tps": row["tokSOut"],
            "prefill_tps": row["tokSPrefill"] or "",
            "memory_gb": row["hardware"].get("vramGb") or row["hardware"].get("unifiedMemoryGb") or "",
            "who": row["user"]["id"],
            "set": "leaderboard",
        }


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    data = Path(sys.argv[1])
    models = Models(json.loads((data / "hf_models.json").read_text()))
    dropped = Counter()
    rows = [*community_rows(data, models, dropped), *leaderboard_rows(data, models, dropped)]
    people = {}
    writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        # Who measured matters only as far as one person's rows err together.
        row["who"] = people.setdefault(row["who"], f"p{len(people)}")
        row["decode_tps"] = round(row["decode_tps"], 2)
        row["prefill_tps"] = round(row["prefill_tps"], 1) if row["prefill_tps"] else ""
        writer.writerow(row)
    print(f"{len(rows)} rows; left out: {dict(dropped)}", file=sys.stderr)


if __name__ == "__main__":
    main()
