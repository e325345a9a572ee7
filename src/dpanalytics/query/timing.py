"""Response time classes: reading rows takes a time that tells next to nothing of one student.

Work on rows takes longer where there are more of them, so the time of an answer would tell of who
is in the data. Here it is held back to a multiple of one class, begun at a random point of it. For
classes of C seconds, work of w seconds ends after

    C * ceil((w + u) / C),  u uniform in [0, C), drawn before the work

seconds. Where one student makes the difference of d <= C seconds to the work, the chances of any
class differ by d / C at most in total, whatever w is: u moves every boundary to a random place, so
nobody can ask a question whose work ends right at one. Without u, the difference could be 1.

The thread is held as well, so when the next question begins depends on held times only; and the
journal is written after, so neither its clock nor another process that looks for the release
learns the true time. docs/design/0011-side-doors.md says what this does not hide.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


def class_of(seconds: float, *, length: float) -> int:
    """The number of the least class, of `length` seconds each, that holds a time; 1 or more."""
    return max(1, math.ceil(seconds / length))


def at_once(work: Callable[[], T]) -> T:
    """Work that is not held back: for who sits at the machine, and may read the rows anyway."""
    return work()


@dataclass(frozen=True)
class TimeClasses:
    """Holds work back to the end of a class."""

    length: float
    """Of a class, in seconds."""
    clock: Callable[[], float]
    """Seconds since any moment, never going back."""
    sleep: Callable[[float], None]
    """Waits so many seconds, or about so many."""
    uniform: Callable[[], float]
    """A number of [0, 1), each as likely, which nobody can foretell."""

    def __post_init__(self) -> None:
        if not 0 < self.length < math.inf:
            raise ValueError(f"classes of {self.length} seconds; must be above 0")

    def hold(self, work: Callable[[], T]) -> T:
        """What the work returns or raises, at the end of a class."""
        shift = self.uniform() * self.length
        begun = self.clock()
        try:
            return work()
        finally:
            spent = self.clock() - begun
            end = begun + self.length * class_of(spent + shift, length=self.length)
            while (left := end - self.clock()) > 0:
                self.sleep(left)
