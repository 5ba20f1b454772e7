"""Writes the golden vectors of the block formats, computed by the Python package `gguf` (tested with 0.19.0).

    pip install gguf && python generate.py

For each format: NAME.blocks, random bytes with scales of every kind, and NAME.f32, the weights that `gguf` reads from
them. Where `gguf` can also quantize: NAME.input.f32, and NAME.quantized, the blocks that it makes of it.
"""

from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import quants

HERE = Path(__file__).parent
# Ordinary, negative, large, the smallest normal, two subnormals, zero, minus zero.
SCALES = np.array([0.0123, -0.31, 1000.0, 6.104e-5, 5.96e-8, -3.1e-6, 0.0, -0.0], dtype=np.float16)
# Byte offsets of the f16 scales in a block.
SCALE_OFFSETS = {Type.F16: [], Type.BF16: [], Type.Q4_0: [0], Type.Q8_0: [0], Type.Q4_K: [0, 2], Type.Q6_K: [208]}
QUANTIZES = [Type.BF16, Type.Q4_0, Type.Q8_0]

rng = np.random.default_rng(2)
for dtype, offsets in SCALE_OFFSETS.items():
    block_len, block_bytes = gguf.GGML_QUANT_SIZES[dtype]
    count = len(SCALES) if block_len > 1 else 64
    blocks = rng.integers(0, 256, (count, block_bytes), dtype=np.uint8)
    for i, offset in enumerate(offsets):
        # `dmin` takes the scales in another order than `d`.
        blocks[:, offset : offset + 2] = np.roll(SCALES, 3 * i).view(np.uint8).reshape(-1, 2)
    if dtype == Type.F16:
        weights = blocks.view(np.float16).astype(np.float32)
    else:
        weights = quants.dequantize(blocks, dtype).astype(np.float32)
    assert not offsets or np.isfinite(weights).all()
    (HERE / f"{dtype.name.lower()}.blocks").write_bytes(blocks.tobytes())
    (HERE / f"{dtype.name.lower()}.f32").write_bytes(weights.astype("<f4").tobytes())

    if dtype in QUANTIZES:
        x = rng.standard_normal((8, 32)).astype(np.float32)
        x *= np.array([[1], [0.02], [-300], [1e-4], [0], [1], [1], [1e5]], dtype=np.float32)
        x[5] = np.round(x[5] * 4) / 4  # ties
        x[6, 3:] = 0.0
        (HERE / f"{dtype.name.lower()}.input.f32").write_bytes(x.astype("<f4").tobytes())
        (HERE / f"{dtype.name.lower()}.quantized").write_bytes(quants.quantize(x, dtype).tobytes())
