"""Arrow schemas of every table the pipeline writes: faces, pairs manifest, upscaled images, per-image metrics.

Image columns are the struct that the Hugging Face `datasets` library shows as a picture:
`struct<bytes: binary, path: string>` plus a `huggingface` entry in the schema's metadata.
"""

import json
from pathlib import PurePosixPath
from typing import Any, Final

import pyarrow as pa

Row = dict[str, Any]
"""A row of one of these tables, by column."""

ROWS_PER_GROUP: Final = 100
"""Rows in a Parquet row group: small enough that one image is read without decoding a whole shard."""

IMAGE: Final = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

FORMAT_KEY: Final = b"facesr"
"""Of the schema's metadata: name and number of the format, such as `pairs-2`. Where it is missing, number 1."""

FORMATS: Final = {
    "faces": 1,
    "pairs": 2,  # 1 had no chains of degradations
    "upscaled": 1,
}
"""Newest number of each format that is read and written here. All earlier ones are read."""

_VALUE_TYPES = {pa.string(): "string", pa.int32(): "int32", pa.int64(): "int64", pa.float64(): "float64"}


def _numbered(schema: pa.Schema, name: str) -> pa.Schema:
    """A schema that says its format and number."""
    return schema.with_metadata((schema.metadata or {}) | {FORMAT_KEY: f"{name}-{FORMATS[name]}"})


def newer_format(schema: pa.Schema) -> str | None:
    """The format that a file says it has, where a newer facesr wrote it; None where it can be read."""
    found = (schema.metadata or {}).get(FORMAT_KEY, b"").decode(errors="replace")
    name, _, number = found.rpartition("-")
    readable = not found or (name in FORMATS and number.isdecimal() and int(number) <= FORMATS[name])
    return None if readable else found


def _with_features(fields: list[tuple[str, pa.DataType]]) -> pa.Schema:
    """A schema whose metadata tells `datasets` which columns are images."""
    features = {
        name: {"_type": "Image"} if kind == IMAGE else {"dtype": _VALUE_TYPES[kind], "_type": "Value"}
        for name, kind in fields
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema(fields, metadata=metadata)


FACES: Final = _numbered(
    _with_features(
        [
            ("id", pa.string()),  # hash of the decoded pixels + duplicate ordinal
            ("image", IMAGE),  # encoded picture, untouched where it was accepted as it is
            ("name", pa.string()),  # path inside the source
            ("source", pa.string()),  # the source as named in params
            ("split", pa.string()),  # train, valid or test
            ("person", pa.string()),  # who it shows, where the source says so; else null
            ("conversion", pa.string()),  # what was done to the file's pixels, comma separated; empty: bytes untouched
            ("transform", pa.string()),  # JSON, 2x3: from the file's picture to the aligned face, pixels; else null
            ("width", pa.int32()),  # pixels
            ("height", pa.int32()),  # pixels
        ]
    ),
    "faces",
)
"""Faces at full size, and (same columns) the inputs of at most 256x256 made of them."""

REJECTED: Final = pa.schema(
    [
        ("id", pa.string()),  # null where nothing could be decoded
        ("name", pa.string()),
        ("source", pa.string()),
        ("reason", pa.string()),
    ]
)

PAIRS: Final = _numbered(
    pa.schema(
        [
            ("pair_id", pa.string()),
            ("image_id", pa.string()),
            ("split", pa.string()),  # train or valid: no pair is ever made of a test face
            ("scale", pa.string()),  # 16to64, 32to128, 64to256; 256to1024: the face itself, compared after reduction
            ("augmentation", pa.string()),
            ("strength", pa.float64()),  # noise: sigma in grey levels; blur: sigma in pixels; jpeg: quality; else 0
            ("seed", pa.int64()),  # of the noise
            # a chain of degradations beside the augmentation, `core.chain.Chain`; null: no such link
            ("reduction", pa.string()),  # from the ground truth: box, lanczos, bilinear, aliased, halves; null: bicubic
            ("blur", pa.float64()),  # sigma, pixels of the input
            ("noise", pa.float64()),  # sigma, grey levels
            ("grey", pa.float64()),  # share of the noise that the channels have in common
            ("first_jpeg", pa.int32()),  # quality of an earlier compression
            ("shift", pa.int32()),  # of its blocks, pixels
            ("jpeg", pa.int32()),  # quality
            ("subsampling", pa.string()),  # 4:2:0, 4:2:2, 4:4:4
            ("tables", pa.string()),  # flat; null: the JPEG standard's
        ]
    ),
    "pairs",
)

UPSCALED: Final = _numbered(
    _with_features(
        [
            ("id", pa.string()),
            ("image", IMAGE),  # null bytes where status is not ok
            ("name", pa.string()),
            ("split", pa.string()),
            ("scale", pa.string()),  # 64to256 or 256to1024
            ("method", pa.string()),  # facesr, facesr-realism or a baseline
            ("status", pa.string()),  # ok or failed
            ("error", pa.string()),  # empty where ok
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("model", pa.string()),  # sha256 of the weights
            ("degradation", pa.string()),  # of an augmented input: JSON of augmentation, strength and seed; null: clean
        ]
    ),
    "upscaled",
)


def upscaled_row(face: Row, split: str, scale: str, method: str, model: str = "") -> Row:
    """Make the UPSCALED row of a face that has no result yet: it has failed until `add_result`."""
    given = {"id": face["id"], "name": face["name"], "split": split, "scale": scale, "method": method, "model": model}
    return given | {"status": "failed", "error": "", "width": 0, "height": 0}


def add_result(row: Row, data: bytes, height: int, width: int) -> None:
    """Put an encoded result into an UPSCALED row."""
    path = PurePosixPath(row["name"]).with_suffix(".png")
    row.update(image={"bytes": data, "path": str(path)}, status="ok", width=width, height=height)


UPSCALE_MANIFEST: Final = pa.schema(
    [
        ("id", pa.string()),
        ("name", pa.string()),
        ("status", pa.string()),  # ok, failed, or skipped: it killed its worker twice
        ("error", pa.string()),  # empty where ok
        ("width", pa.int32()),  # of the result, pixels
        ("height", pa.int32()),
        ("seconds", pa.float64()),  # spent on this picture by its worker
        ("model", pa.string()),  # sha256 of the weights
        ("file", pa.string()),  # path of the result inside OUTPUT; null where there is none
        ("bytes", pa.int64()),  # size of that file
        ("input_width", pa.int32()),  # pixels, as it is seen: after its EXIF orientation
        ("input_height", pa.int32()),
        ("note", pa.string()),  # what the result's format could not hold, smaller tiles …
        ("faces", pa.int32()),  # found, where asked for
        ("consistency", pa.float64()),  # mean |result reduced 4x - input|, grey levels, where asked for
        ("identity", pa.float64()),  # cosine of face embeddings of input and result, where asked for
        ("flags", pa.string()),  # why a person should look at it, comma separated
        ("stamp", pa.string()),  # of the input: changes when it does
        # what was found in the input, whether or not the generator can be told of it; null where it could not be read
        ("jpeg_quality", pa.float64()),  # 1 to 100, by the file's tables; null: no JPEG
        ("noise", pa.float64()),  # sigma, grey levels; null: compressed, which reshapes noise
        ("blocks", pa.float64()),  # quality of an earlier JPEG compression that a lossless file shows; null: none
    ]
)

METRICS: Final = pa.schema(
    [
        ("id", pa.string()),
        ("name", pa.string()),
        ("split", pa.string()),
        ("scale", pa.string()),
        ("method", pa.string()),
        # all others: null where the method has no result, a network is missing, or the picture is too small
        ("psnr", pa.float64()),  # dB, 8-bit RGB, whole image
        ("ssim", pa.float64()),  # Gaussian 11x11, sigma 1.5, valid area, mean over RGB
        ("consistency", pa.float64()),  # mean |result reduced 4x - input|, grey levels
        ("ms_ssim", pa.float64()),
        ("psnr_y", pa.float64()),  # dB, luma of BT.601
        ("psnr_crop4", pa.float64()),  # dB, 4 pixels off each edge
        ("psnr_y_crop4", pa.float64()),  # dB
        ("ssim_y", pa.float64()),
        ("ssim_crop4", pa.float64()),
        ("ssim_y_crop4", pa.float64()),
        ("lpips", pa.float64()),  # AlexNet
        ("lpips_vgg", pa.float64()),
        ("dists", pa.float64()),
        ("identity", pa.float64()),  # cosine of embeddings of result and original
        ("bias_r", pa.float64()),  # mean of result reduced - input, grey levels
        ("bias_g", pa.float64()),
        ("bias_b", pa.float64()),
        ("shift_x", pa.float64()),  # of the result against the original, pixels to the right
        ("shift_y", pa.float64()),  # pixels down
        ("mirror_gain", pa.float64()),  # dB by which the mirrored result matches better, reduced
    ]
)
"""Definitions: `metrics.registry.MEASURES`, `metrics.defects.find_defects`."""

PICTURES: Final = _with_features(
    [("id", pa.string()), ("image", IMAGE), ("name", pa.string()), ("width", pa.int32()), ("height", pa.int32())]
)
"""Pictures in one Parquet file: what `facesr upscale IN OUT.parquet` and `facesr synth` write."""
