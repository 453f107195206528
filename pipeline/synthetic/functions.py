"""Functions that NumPy approximates in another way on each kind of processor, with the same results on all.

They are worked out in float64 and rounded: what the approximations differ by there is far below what float32 holds.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[Any]


def _rounded(function: np.ufunc, *values: npt.ArrayLike) -> Values:
    return np.asarray(function(*values, dtype=np.float64), np.result_type(*values))


def exp(x: Values) -> Values:
    """As np.exp, of the type of `x`."""
    return _rounded(np.exp, x)


def sin(x: Values) -> Values:
    """As np.sin, of the type of `x`."""
    return _rounded(np.sin, x)


def cos(x: Values) -> Values:
    """As np.cos, of the type of `x`."""
    return _rounded(np.cos, x)


def tanh(x: Values) -> Values:
    """As np.tanh, of the type of `x`."""
    return _rounded(np.tanh, x)


def arctan2(y: Values, x: Values) -> Values:
    """As np.arctan2, of the type of both."""
    return _rounded(np.arctan2, y, x)


def power(x: Values, exponent: float) -> Values:
    """As np.power for exponents above 0, of the type of `x`."""
    if exponent != int(exponent):
        return _rounded(np.power, x, exponent)
    found, left = None, int(exponent)
    while left:  # products are the same everywhere, and quicker
        if left % 2:
            found = x if found is None else found * x
        x, left = x * x, left // 2
    return np.asarray(found)
