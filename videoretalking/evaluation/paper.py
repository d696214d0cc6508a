"""Figures of the paper's tables, to be printed beside ours."""

from __future__ import annotations

from collections.abc import Mapping

Figures = Mapping[str, float]

# Column -> (heading, decimals, whether higher is better).
COLUMNS: Mapping[str, tuple[str, int, bool]] = {
    "fid": ("FID", 3, False),
    "cpbd": ("CPBD", 4, True),
    "lse_d": ("LSE-D", 3, False),
    "lse_c": ("LSE-C", 3, True),
    "visual": ("Visual quality", 3, True),
    "lip_sync": ("Lip-sync quality", 3, True),
}


def _row(fid: float, cpbd: float, lse_d: float, lse_c: float) -> Figures:
    return {"fid": fid, "cpbd": cpbd, "lse_d": lse_d, "lse_c": lse_c}


# Table 1: method -> data set -> figures.
TABLE_1: Mapping[str, Mapping[str, Figures]] = {
    "LipGAN": {"LRS2": _row(5.168, 0.2615, 9.609, 3.062), "HDTF": _row(7.684, 0.2754, 9.943, 4.052)},
    "Wav2Lip w/o GAN": {"LRS2": _row(5.069, 0.2607, 7.116, 6.889), "HDTF": _row(7.358, 0.2764, 8.689, 5.427)},
    "Wav2Lip": {"LRS2": _row(3.911, 0.2714, 7.191, 6.870), "HDTF": _row(5.632, 0.2763, 8.895, 5.228)},
    "PC-AVS": {"LRS2": _row(12.800, 0.2085, 7.666, 5.974)},
    "Ours": {"LRS2": _row(5.193, 0.2809, 6.519, 7.089), "HDTF": _row(4.504, 0.2903, 9.359, 4.518)},
}

# Table 2: method -> mean opinion of 51 people.
TABLE_2: Mapping[str, Figures] = {
    "LipGAN": {"visual": 2.867, "lip_sync": 3.058},
    "Wav2Lip": {"visual": 3.173, "lip_sync": 3.398},
    "Ours": {"visual": 4.171, "lip_sync": 4.100},
}

# Table 3: ablation on HDTF.
TABLE_3: Mapping[str, Figures] = {
    "L-Net w/o cross-attention": _row(5.951, 0.2743, 9.788, 4.164),
    "L-Net": _row(6.471, 0.2755, 9.578, 4.382),
    "L-Net + E-Net": _row(3.334, 0.2873, 10.171, 3.764),
    "L-Net + E-Net + D-Net": _row(4.504, 0.2903, 9.359, 4.518),
}

# Table 4 (appendix A): interpolation ratio from the neutral to the smile template, 10 videos of HDTF.
TABLE_4: Mapping[float, Figures] = {
    0.0: {"lse_d": 9.027, "lse_c": 4.829},
    0.2: {"lse_d": 9.058, "lse_c": 4.798},
    0.4: {"lse_d": 9.092, "lse_c": 4.768},
    0.6: {"lse_d": 9.084, "lse_c": 4.781},
    0.8: {"lse_d": 9.025, "lse_c": 4.834},
    1.0: {"lse_d": 8.924, "lse_c": 4.929},
}
