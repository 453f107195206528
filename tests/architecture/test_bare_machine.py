"""Training and upscaling run where only torch, numpy, Pillow, Arrow and safetensors are installed."""

from pathlib import Path

from support.pictures import face
from support.stages import python
from support.training import write_inputs, write_manifest

BARE = '''
import sys
from importlib.abc import MetaPathFinder

ALLOWED = {"torch", "numpy", "PIL", "pyarrow", "safetensors", "pipeline"}
# what torch itself needs or looks for
ALLOWED |= {"sympy", "mpmath", "networkx", "jinja2", "markupsafe", "fsspec", "filelock", "typing_extensions"}
ALLOWED |= {"torchgen", "functorch", "nvidia", "triton", "cuda", "packaging", "setuptools", "_distutils_hack"}

def allowed(name):
    top = name.partition(".")[0]
    return top in ALLOWED or top in sys.stdlib_module_names or top.startswith(("_sysconfigdata", "__"))

class Bare(MetaPathFinder):
    """A finder that finds only what a bare machine has."""

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return self.finder.find_spec(name, path, target) if allowed(name) else None

sys.meta_path[:] = [Bare(finder) for finder in sys.meta_path]
for name in list(sys.modules):  # what the interpreter's start-up brought in
    if not allowed(name):
        del sys.modules[name]

for name in ("ray", "dvc", "dvclive", "pydantic", "cv2", "rich", "typer", "torchvision", "scipy", "pandas", "yaml"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{name} can still be imported")

from pathlib import Path
import numpy as np
from pipeline.train.engine.batches import PairData
from pipeline.models.config import DiscriminatorConfig, GeneratorConfig
from pipeline.train.engine.config import TrainConfig
from pipeline.train.engine.loop import Training
from pipeline.upscale.upscaler import Upscaler

data = PairData(Path("train"), Path("pairs.parquet"), "train")
config = TrainConfig(
    generator=GeneratorConfig((8,), blocks=0, bottleneck=1),
    discriminator=DiscriminatorConfig((4, 8), 1),
    seed=1,
    batch=2,
    crop=64,
    scales={"16to64": 1.0},
    smoother=0.5,
    drawn=1.0,
    steps=2,
    learning_rate=5e-4,
    adversarial=0.1,
    perceptual=0.1,
    layers=("relu1_1",),
)
result = Training(config, data, data.pairs("16to64", 1), Path("work")).run()
(picture,) = Upscaler.load(result)([np.full((20, 30, 3), 128, np.uint8)])
print(picture.shape, result)
files = {name for name, module in sys.modules.items() if getattr(module, "__file__", None)}
print("extra", sorted(name for name in files if not allowed(name)))
'''


def test_training_and_upscaling_need_only_torch_numpy_pillow_arrow_and_safetensors(tmp_path: Path) -> None:
    images = write_inputs(tmp_path / "train", [face(index) for index in range(2)], "train")
    # JPEG and noise are made while training, so they are part of what must run
    write_manifest(tmp_path / "pairs.parquet", images, {"jpeg": 1.0, "noise": 1.0, "blur": 1.0})
    done = python(BARE, tmp_path)
    assert done.returncode == 0, done.stderr
    shape, extra = done.stdout.splitlines()
    assert shape == "(80, 120, 3) work/generator.safetensors"
    assert extra == "extra []"
