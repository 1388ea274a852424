"""One type for the values of two: without loss, or as text is read."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.types as pt

_INTEGERS = (pa.int8(), pa.int16(), pa.int32(), pa.int64())
_FLOATS = (pa.float32(), pa.float64())
#: Integers whose every value is one of the floating type, too.
_EXACT = {pa.float32(): _INTEGERS[:2], pa.float64(): _INTEGERS[:3]}


def wider_type(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Find the type that holds the values of two without loss; None if neither does."""
    if one == other or pt.is_null(other):
        return one
    if pt.is_null(one):
        return other
    for order in (_INTEGERS, _FLOATS):
        if one in order and other in order:
            return max(one, other, key=order.index)
    for whole, floating in ((one, other), (other, one)):
        if whole in _EXACT.get(floating, ()):
            return floating
    if pt.is_decimal(one) and pt.is_decimal(other):
        scale = max(one.scale, other.scale)
        whole_digits = max(one.precision - one.scale, other.precision - other.scale)
        return pa.decimal128(whole_digits + scale, scale) if whole_digits + scale <= 38 else None
    return None


def text_type(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """Choose the type for values of text that were taken for two types: text, if nothing else."""
    if (pt.is_integer(one) and pt.is_floating(other)) or (
        pt.is_floating(one) and pt.is_integer(other)
    ):
        return pa.float64()
    if pt.is_date(one) and pt.is_timestamp(other):
        return other
    if pt.is_timestamp(one) and pt.is_date(other):
        return one
    return wider_type(one, other) or pa.string()
