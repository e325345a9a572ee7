"""In how many groups one student may appear: the number that scales the noise.

A snapshot holds every limit that its view declares. For the dimensions that a question groups by,
the least number that follows from those limits is found here. Pure.
"""

import math
from collections.abc import Mapping, Sequence

from dpanalytics.schema.view import ACADEMIC_YEAR, Dimension, View


def max_groups(view: View, group_by: Sequence[str], chosen: Mapping[str, tuple[str, ...]]) -> int:
    """Most groups of `group_by` in which one student's records of one academic year appear.

    `chosen` holds the values that the question's filter keeps. Three facts are combined: a
    declared limit on a set of dimensions also limits its subsets; a dimension has no more groups
    than values; and limits on two sets multiply for their union. The least product of limits
    that covers the dimensions is the answer; dimensions constant for a student add nothing.
    """
    varying = tuple(
        name for name in group_by if name != ACADEMIC_YEAR and not _dimension(view, name).constant
    )
    limits = [(set(c.by), c.groups) for c in view.contributions]
    limits += [({name}, len(chosen.get(name, _dimension(view, name).domain))) for name in varying]
    bits = {name: 1 << place for place, name in enumerate(varying)}
    masks = [(sum(bits[n] for n in by if n in bits), groups) for by, groups in limits]
    everything = (1 << len(varying)) - 1
    least = [1.0] + [math.inf] * everything
    for covered in range(everything + 1):
        for mask, groups in masks:
            union = covered | mask
            least[union] = min(least[union], least[covered] * groups)
    return int(least[everything])


def _dimension(view: View, name: str) -> Dimension:
    dimension = view.dimension(name)
    if dimension is None:
        raise KeyError(name)
    return dimension
