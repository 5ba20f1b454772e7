"""Writes the grids of the IQ1, IQ2 and IQ3 formats as the Python package `gguf` has them (tested with 0.19.0).

    pip install gguf && python generate.py

NAME.txt is a point after the other, a digit for each of its columns: the number of the level, counted from 0. Which
levels there are is in mod.rs.
"""

from pathlib import Path

import numpy as np
from gguf import quants

HERE = Path(__file__).parent
GRIDS = {
    "iq1": quants.IQ1_S,
    "iq2_xxs": quants.IQ2_XXS,
    "iq2_xs": quants.IQ2_XS,
    "iq2_s": quants.IQ2_S,
    "iq3_xxs": quants.IQ3_XXS,
    "iq3_s": quants.IQ3_S,
}

for name, quant in GRIDS.items():
    quant.init_grid()
    points = np.searchsorted(np.array(quant.grid_map), quant.grid.reshape(quant.grid_shape))
    words = ["".join(map(str, point)) for point in points]
    per_line = 96 // (len(words[0]) + 1)
    lines = [" ".join(words[i : i + per_line]) for i in range(0, len(words), per_line)]
    (HERE / f"{name}.txt").write_text("\n".join(lines) + "\n")
