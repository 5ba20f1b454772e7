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
SCALE_OFFSETS = {
    Type.F16: [],
    Type.BF16: [],
    Type.Q4_0: [0],
    Type.Q8_0: [0],
    Type.Q4_K: [0, 2],
    Type.Q6_K: [208],
    Type.Q4_1: [0, 2],
    Type.Q5_0: [0],
    Type.Q5_1: [0, 2],
    Type.Q2_K: [80, 82],
    Type.Q3_K: [108],
    Type.Q5_K: [0, 2],
    Type.IQ4_NL: [0],
    Type.IQ4_XS: [0],
    Type.MXFP4: [],
    Type.NVFP4: [],
    Type.TQ1_0: [52],
    Type.TQ2_0: [64],
    Type.IQ1_S: [0],
    Type.IQ1_M: [],
    Type.IQ2_XXS: [0],
    Type.IQ2_XS: [0],
    Type.IQ2_S: [0],
    Type.IQ3_XXS: [0],
    Type.IQ3_S: [0],
}
QUANTIZES = [Type.BF16, Type.Q4_0, Type.Q8_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.TQ1_0, Type.TQ2_0]

rng = np.random.default_rng(2)
for dtype, offsets in SCALE_OFFSETS.items():
    block_len, block_bytes = gguf.GGML_QUANT_SIZES[dtype]
    count = len(SCALES) if block_len > 1 else 64
    blocks = rng.integers(0, 256, (count, block_bytes), dtype=np.uint8)
    for i, offset in enumerate(offsets):
        # `dmin` takes the scales in another order than `d`.
        blocks[:, offset : offset + 2] = np.roll(SCALES, 3 * i).view(np.uint8).reshape(-1, 2)
    if dtype == Type.MXFP4:
        blocks[:, 0] = [127, 118, 0, 1, 2, 250, 254, 255]
    if dtype == Type.NVFP4:
        # Zero, subnormal, ordinary, the largest, no number, with the unused bit.
        blocks[:, :4] = np.resize([0x00, 0x01, 0x07, 0x08, 0x38, 0x7E, 0x7F, 0x80, 0xB9], (count, 4))
    if dtype == Type.IQ1_M:
        # The scale is the top nibbles of four words, the lowest first.
        for i in range(4):
            nibbles = (SCALES.view(np.uint16) >> (4 * i) & 0xF).astype(np.uint8)
            blocks[:, 49 + 2 * i] = blocks[:, 49 + 2 * i] & 0x0F | nibbles << 4
    if dtype == Type.F16:
        weights = blocks.view(np.float16).astype(np.float32)
    else:
        weights = quants.dequantize(blocks, dtype).astype(np.float32)
    assert not offsets or np.isfinite(weights).all()
    (HERE / f"{dtype.name.lower()}.blocks").write_bytes(blocks.tobytes())
    (HERE / f"{dtype.name.lower()}.f32").write_bytes(weights.astype("<f4").tobytes())

    if dtype in QUANTIZES:
        # As many rows of 32 as make eight blocks; a block of 256 takes its numbers from eight rows.
        x = rng.standard_normal((8, block_len if block_len > 1 else 32)).astype(np.float32)
        # A minimum or the largest weight itself has to fit an f16.
        large = 1e5 if dtype in [Type.BF16, Type.Q4_0, Type.Q8_0] else 1e4
        x *= np.array([[1], [0.02], [-300], [1e-4], [0], [1], [1], [large]], dtype=np.float32)
        x[5] = np.round(x[5] * 4) / 4  # ties
        x[6, 3:] = 0.0
        if dtype in [Type.Q4_1, Type.Q5_1]:
            x[4] = 0.0  # of zeros of both signs no one says which is the minimum
        (HERE / f"{dtype.name.lower()}.input.f32").write_bytes(x.astype("<f4").tobytes())
        (HERE / f"{dtype.name.lower()}.quantized").write_bytes(quants.quantize(x, dtype).tobytes())
