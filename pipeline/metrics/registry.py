"""Every metric of the reports: what it is called, which way is better, how it is defined, and what it needs.

One table, read by the evaluation, the page, the terminal and the documents, so that a number and its definition cannot
part. Values of a face lie in columns of the same name in `schema.METRICS`; those of a set in `metrics.json` alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Measure:
    """A metric."""

    key: str
    heading: str
    """Short, for the head of a column."""
    unit: str
    """"" where it has none."""
    digits: int
    """Decimals shown."""
    sign: int
    """+1: more is better, -1: less is."""
    definition: str
    """Parameters included, so that the number could be had again elsewhere."""
    source: str
    """Publication, and whose code computes it where it is not ours."""
    networks: tuple[str, ...] = ()
    """Without these, by their names in `pretrained.registry.NETWORKS`, it is null."""
    per_face: bool = True
    """False: a property of a set of pictures."""

    @property
    def title(self) -> str:
        """Heading with its unit."""
        return f"{self.heading}, {self.unit}" if self.unit else self.heading

    def text(self, value: float) -> str:
        """A figure as it is shown."""
        return f"{value:.{self.digits}f}"


def signed(value: float, digits: int = 2) -> str:
    """A number with its sign, by the typographic minus: +0.77, −0.10."""
    return f"{value:+.{digits}f}".replace("-", "−")


_WANG = "Wang, Bovik, Sheikh, Simoncelli, IEEE TIP 2004"
_LUMA = "on luma, BT.601 of 16 to 235, not rounded: 16 + (65.481 R + 128.553 G + 24.966 B) / 255"
_SSIM = (
    "11x11 Gaussian, σ 1.5, K1 0.01, K2 0.03, range 255, population covariance, mean over the area the window fits in"
)
_CROP = "4 pixels off each edge left out"
_TF = "resized to 299 by TensorFlow 1's bilinear, without antialiasing"
_ZHANG = "Zhang, Isola, Efros, Shechtman, Wang, CVPR 2018; torchmetrics' code and linear layers, version 0.1"

MEASURES: Final = {
    measure.key: measure
    for measure in (
        Measure(
            "psnr", "PSNR", "dB", 2, 1, "10 log10(255² / MSE), one MSE over 8-bit RGB, whole picture", "definition"
        ),
        Measure("ssim", "SSIM", "", 4, 1, f"8-bit RGB, whole picture: {_SSIM}, per channel, then averaged", _WANG),
        Measure("ms_ssim", "MS-SSIM", "", 4, 1, "five scales, each the mean of 2x2 pixels of the one before, exponents "
                ".0448 .2856 .3001 .2363 .1333, contrast-structure averaged over RGB and the area the window fits in; "
                "176 pixels a side at least", "Wang, Simoncelli, Bovik, Asilomar 2003"),
        Measure("consistency", "Consistency", "levels", 2, -1, "mean |result reduced to the input's size − input|, by "
                "Pillow's antialiased bicubic, grey levels of 255", "this project; no original is needed"),
        Measure("lpips", "LPIPS Alex", "", 4, -1, "AlexNet backbone, RGB in −1 to 1, at full size", _ZHANG,
                ("alexnet",)),
        Measure("lpips_vgg", "LPIPS VGG", "", 4, -1, "VGG-16 backbone, RGB in −1 to 1, at full size", _ZHANG,
                ("vgg16",)),
        Measure("dists", "DISTS", "", 4, -1, "VGG-16 backbone with L2 pooling, RGB in 0 to 1, at full size",
                "Ding, Ma, Wang, Simoncelli, TPAMI 2020; torchmetrics' code and weights of layers", ("vgg16",)),
        Measure("identity", "Identity", "", 4, 1, "cosine of MobileFaceNet embeddings of result and original, both "
                "aligned by the landmarks that YuNet finds in the original; without a detector, by where aligned "
                "portraits have them", "after Deng, Guo, Xue, Zafeiriou, CVPR 2019", ("embedding",)),
        Measure("fid", "FID", "", 2, -1, f"Fréchet distance of 2,048 pool features of Inception 2015-12-05, {_TF} "
                "(torch-fidelity's)", "Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter, NeurIPS 2017",
                ("inception",), per_face=False),
        Measure("fid_clean", "FID, clean", "", 2, -1, "the same, resized to 299 by Pillow's antialiased bicubic in "
                "floating point (clean-fid's)", "Parmar, Zhang, Zhu, CVPR 2022", ("inception",), per_face=False),
        Measure("kid", "KID", "", 5, -1, "unbiased MMD² with kernel (xᵀy / 2048 + 1)³, features as FID's; "
                "mean over 100 subsets of at most 1,000, ± their standard deviation",
                "Bińkowski, Sutherland, Arbel, Gretton, ICLR 2018; torch-fidelity's code", ("inception",),
                per_face=False),
        Measure("precision", "Precision", "", 3, 1, "share of results within the reach of an original's third "
                "neighbour, features as FID's", "Kynkäänniemi, Karras, Laine, Lehtinen, Aila, NeurIPS 2019; "
                "torch-fidelity's code", ("inception",), per_face=False),
        Measure("recall", "Recall", "", 3, 1, "share of originals within the reach of a result's third neighbour, "
                "features as FID's", "as precision", ("inception",), per_face=False),
        Measure("psnr_y", "PSNR Y", "dB", 2, 1, f"PSNR {_LUMA}", "as PSNR"),
        Measure("psnr_crop4", "PSNR crop 4", "dB", 2, 1, f"PSNR, {_CROP}", "as PSNR"),
        Measure("psnr_y_crop4", "PSNR Y crop 4", "dB", 2, 1, f"PSNR {_LUMA}; {_CROP}", "as PSNR"),
        Measure("ssim_y", "SSIM Y", "", 4, 1, f"SSIM {_LUMA}", _WANG),
        Measure("ssim_crop4", "SSIM crop 4", "", 4, 1, f"SSIM, {_CROP}", _WANG),
        Measure("ssim_y_crop4", "SSIM Y crop 4", "", 4, 1, f"SSIM {_LUMA}; {_CROP}", _WANG),
    )
}  # fmt: skip
"""In the order shown."""

VARIANTS: Final = ("psnr_y", "psnr_crop4", "psnr_y_crop4", "ssim_y", "ssim_crop4", "ssim_y_crop4")
"""Other conventions of PSNR and SSIM, in a table of their own."""
MAIN: Final = tuple(key for key in MEASURES if key not in VARIANTS)
HEADLINES: Final = ("psnr", "ssim", "consistency", "lpips", "dists", "identity", "fid")
"""What fits side by side on a terminal and on a page; the others follow in a table of their own."""
PER_FACE: Final = tuple(key for key, measure in MEASURES.items() if measure.per_face)
OF_SETS: Final = tuple(key for key, measure in MEASURES.items() if not measure.per_face)
DEFECTS: Final = ("bias_r", "bias_g", "bias_b", "shift_x", "shift_y", "mirror_gain")
"""Columns that tell how a method is broken, see `pipeline/metrics/defects.py`."""


def why_null(key: str, networks: Mapping[str, str], problems: Mapping[str, str], fewest: str) -> str:
    """Why a metric could not be had.

    Args:
        key: of the metric.
        networks: weights file of each network that is at hand.
        problems: why others are not.
        fewest: the reason where all networks are there.
    """
    for name in MEASURES[key].networks:
        if name not in networks:
            return problems.get(name) or f"no {name} weights: `facesr weights list` shows where they are looked for"
    if fewest:
        return fewest
    return {
        "ms_ssim": "pictures under 176 pixels a side have no five scales",
        "consistency": "the sides are no multiples of 4",
        "identity": "no face was found",
    }.get(key, "pictures are too small")


RESIZES: Final = ("fid", "fid_clean")
"""Resize of which distance: TensorFlow 1's bilinear (torch-fidelity), Pillow's bicubic in floats (clean-fid)."""
