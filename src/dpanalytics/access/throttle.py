"""How often a password may be tried: failures make the next attempt wait.

Pure: the clock is handed in. Counts live in one process and end with it.
"""

from collections import OrderedDict, deque
from collections.abc import Callable

from dpanalytics.errors import TooManyRequests

FREE = 5
"""Failures of one name in a row that cost nothing yet; people mistype."""
LONGEST = 300.0
"""Seconds that a name waits at most."""
ALL_NAMES = 30
"""Failures of all names together in `WINDOW`, after which everybody waits."""
WINDOW = 60.0
"""Seconds."""
NAMES = 1_000
"""Names remembered, the ones that failed last."""


class Throttle:
    """Counts failed attempts by name and in all. Not for several threads at once."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """The clock gives seconds."""
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._recent: deque[float] = deque(maxlen=ALL_NAMES)

    def __len__(self) -> int:
        """How many names are remembered."""
        return len(self._failures)

    def check(self, name: str) -> None:
        """Let an attempt pass, or tell how long to wait.

        Raises:
            TooManyRequests: too soon after failures; the same for a name that nobody has.
        """
        now = self._clock()
        wait = 0.0
        if name in self._failures:
            count, last = self._failures[name]
            if count >= FREE:
                wait = last + min(2.0 ** min(count - FREE, 10), LONGEST) - now
        while self._recent and not now - WINDOW < self._recent[0] <= now:
            self._recent.popleft()
        if len(self._recent) >= ALL_NAMES:
            wait = max(wait, self._recent[0] + WINDOW - now)
        if wait > 0:
            raise TooManyRequests(
                "too many sign-ins failed; wait before the next", retry_after=min(wait, LONGEST)
            )

    def failed(self, name: str) -> None:
        """Count a failure."""
        now = self._clock()
        count, _ = self._failures.pop(name, (0, now))
        self._failures[name] = (count + 1, now)
        if len(self._failures) > NAMES:
            self._failures.popitem(last=False)
        self._recent.append(now)

    def succeeded(self, name: str) -> None:
        """Forget the failures of a name."""
        self._failures.pop(name, None)
