"""What realism changes, as one picture: zoomed crops of drawn portraits, enlarged 4x by each method.

python benchmarks/realism_sheet.py --out docs/realism.webp

Portraits are drawn at 1024x1024, reduced 4x by the one bicubic and enlarged again by the released generators. Nothing
in the picture shows a person who exists.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline import Upscaler
from pipeline.core.images import Pixels, resize
from pipeline.core.scales import FACTOR
from pipeline.synthetic.portrait import portrait

SEED = 7
CROPS = (
    (2, 300, 345),  # eye and hair
    (2, 440, 640),  # mouth and skin
    (20, 330, 370),
    (20, 400, 640),
)
"""Portrait of the series, left and top of the crop at 1024x1024."""
SIDE = 160
"""Of a crop, pixels of the result: shown 1:1, so that nothing but the methods differs."""
GAP, HEAD = 4, 24


def methods(index: int) -> dict[str, Pixels]:
    """Column title -> the whole portrait (1024, 1024, 3) as that method gives it."""
    original = portrait(SEED, index)
    height, width = original.shape[:2]
    low = resize(original, height // FACTOR, width // FACTOR)
    shown = {
        "input": np.repeat(np.repeat(low, FACTOR, axis=0), FACTOR, axis=1),
        "bicubic": resize(low, height, width),
    }
    for realism in (0.0, 0.5, 1.0):
        shown[f"realism {realism:g}"] = np.asarray(Upscaler.load(realism=realism, precision="fp32")(low), np.uint8)
    return shown | {"original": original}


def sheet() -> Image.Image:
    """Rows: crops. Columns: methods."""
    font = ImageFont.load_default(15)
    made = {index: methods(index) for index in dict.fromkeys(index for index, *_ in CROPS)}
    titles = list(next(iter(made.values())))
    width, height = len(titles) * (SIDE + GAP) - GAP, HEAD + len(CROPS) * (SIDE + GAP) - GAP
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for column, title in enumerate(titles):
        left = column * (SIDE + GAP)
        draw.text((left + SIDE / 2, HEAD / 2), title, fill="#222222", font=font, anchor="mm")
        for row, (index, x, y) in enumerate(CROPS):
            crop = made[index][title][y : y + SIDE, x : x + SIDE]
            image.paste(Image.fromarray(np.ascontiguousarray(crop)), (left, HEAD + row * (SIDE + GAP)))
    return image


def main() -> None:
    """Draw and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/realism.webp"))
    parser.add_argument("--quality", type=int, default=92, help="of WebP and JPEG")
    options = parser.parse_args()
    image = sheet()
    image.save(options.out, quality=options.quality)
    print(f"{options.out}: {image.width}x{image.height}, {options.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
