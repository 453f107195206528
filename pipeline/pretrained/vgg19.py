"""The layout of VGG-19 (Simonyan & Zisserman, ICLR 2015), without torch, so that params can name its layers."""

CONVOLUTIONS = ((1, 64, 2), (2, 128, 2), (3, 256, 4), (4, 512, 4), (5, 512, 4))
"""(stage, channels, convolutions); a 2x max-pool follows each stage."""


def layer_indices() -> dict[str, int]:
    """Index of each `reluS_C` in the feature stack, numbered as in `torchvision.models.vgg19`."""
    indices: dict[str, int] = {}
    index = 0
    for stage, _, count in CONVOLUTIONS:
        for convolution in range(1, count + 1):
            indices[f"relu{stage}_{convolution}"] = index + 1
            index += 2
        index += 1  # the pooling
    return indices
