"""pyarrow and torch are imported without what takes long, and work as ever where somebody brings or asks for it."""

from pathlib import Path

import pytest
from support.stages import python

WITHOUT_PANDAS = """
import sys
import pyarrow as pa
from pipeline.core.imports import spare_pandas
spare_pandas()
table = pa.Table.from_pylist([{"name": "a", "size": 1.5}])
assert pa.array(["a"]).to_pylist() == ["a"]
assert "pandas" not in sys.modules
frame = table.to_pandas()
import pandas
assert isinstance(frame, pandas.DataFrame)
assert pa.Table.from_pandas(frame).to_pylist() == table.to_pylist()
assert pa.array(pandas.Series([1, None])).to_pylist() == [1, None]
assert pa.array([pandas.Timestamp(0)]).type == pa.timestamp("us")
spare_pandas()
assert sys.modules["pandas"] is pandas
"""

WITHOUT_META_KERNELS = """
import sys
from pipeline.core.imports import spare_meta_kernels
spare_meta_kernels()
import torch
assert not {"torch._decomp", "torch._refs"} & set(sys.modules)
layer = torch.nn.Conv2d(3, 4, 3)
layer(torch.ones(1, 3, 8, 8)).sum().backward()
assert torch.isfinite(layer.weight.grad).all()
with torch.device("meta"):
    torch.nn.Conv2d(3, 4, 3).load_state_dict(layer.state_dict(), assign=True)
from torch._meta_registrations import meta_index_Tensor
assert "torch._decomp" in sys.modules
with torch.device("meta"):
    assert torch.nn.Conv2d(3, 4, 3)(torch.zeros(1, 3, 8, 8)).shape == (1, 4, 6, 6)
"""

COMPILED = """
from pipeline.core.imports import spare_meta_kernels
spare_meta_kernels()
import torch
square = torch.compile(lambda x: (x @ x.T).softmax(1), backend="aot_eager")
assert square(torch.ones(4, 4)).shape == (4, 4)
layer = torch.nn.Linear(2, 2)
torch.optim.Adam(layer.parameters()).step()
with torch.device("meta"):
    assert torch.nn.Conv2d(3, 4, 3)(torch.zeros(1, 3, 8, 8)).shape == (1, 4, 6, 6)
"""

TORCH_IS_THERE = """
import sys
import torch
before = sys.modules["torch._meta_registrations"]
from pipeline.core.imports import spare_meta_kernels
spare_meta_kernels()
assert sys.modules["torch._meta_registrations"] is before
"""


def test_arrays_are_made_without_pandas_and_tables_still_become_frames(tmp_path: Path) -> None:
    done = python(WITHOUT_PANDAS, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(WITHOUT_META_KERNELS, id="computed with, and asked for one by name"),
        pytest.param(COMPILED, id="compiled and trained with"),
        pytest.param(TORCH_IS_THERE, id="imported before"),
    ],
)
def test_torch_works_without_its_meta_kernels_and_gives_them_to_whoever_needs_them(
    tmp_path: Path, program: str
) -> None:
    done = python(program, tmp_path)
    assert done.returncode == 0, done.stderr
