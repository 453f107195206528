"""pyarrow makes arrays without pandas, and knows it as ever where somebody else brings it."""

from pathlib import Path

from support.stages import python

SPARED = """
import sys
import pyarrow as pa
from pipeline.core.arrow import spare_pandas
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


def test_arrays_are_made_without_pandas_and_tables_still_become_frames(tmp_path: Path) -> None:
    done = python(SPARED, tmp_path)
    assert done.returncode == 0, done.stderr
