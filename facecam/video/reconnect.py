"""When a lost source is tried again, and what is known of its state meanwhile."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Final

from facecam.errors import UsageFault

#: A source that gives no picture for so long is taken for dead, seconds (``--stall``).
STALL_SECONDS: Final = 5.0
#: Pauses between attempts, seconds: the first, and the longest. The longest bounds how late a source that is well
#: again is noticed: within the time of a stall and three seconds.
_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 2.0
#: The longest pause after "wrong password": cameras lock accounts that are asked too often.
_REFUSED_PAUSE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Reconnect:
    """How a lost source is tried again.

    Attributes:
        attempts: failed attempts in a row before giving up; 0: never try, infinity: never give up.
        stall: seconds without a picture after which the connection is given up.
        at_start: whether also the first connection is tried again and again.
    """

    attempts: float = math.inf
    stall: float = STALL_SECONDS
    at_start: bool = False

    @classmethod
    def parse(cls, text: str, stall: float = STALL_SECONDS, *, at_start: bool = False) -> Reconnect:
        """From what a user says: "never", "forever" or a number of attempts.

        Raises:
            UsageFault: something else.
        """
        word = text.strip().lower()
        if word == "never":
            return cls(0, stall, at_start)
        if word == "forever":
            return cls(math.inf, stall, at_start)
        if word.isascii() and word.isdigit() and len(word) <= 9:
            return cls(int(word), stall, at_start)
        raise UsageFault(f"--reconnect takes never, forever or a number of attempts, not {text!r}")


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a live source's connection.

    Attributes:
        connected: whether pictures come.
        outages: how often the connection was lost so far.
        attempt: of the outage that lasts.
        reason: why it was lost the last time, without secrets.
        down: seconds that the last outage lasted, once it is over.
    """

    connected: bool = True
    outages: int = 0
    attempt: int = 0
    reason: str = ""
    down: float = 0.0


def pause(attempt: int, *, refused: bool = False) -> float:
    """Seconds before an attempt (from 1): growing, with jitter so that many viewers do not come back as one.

    Args:
        refused: the server said no; it is asked less often.
    """
    longest = _REFUSED_PAUSE if refused else _LONGEST_PAUSE
    full: float = min(longest, _FIRST_PAUSE * 2.0 ** min(attempt - 1, 30))
    return full * random.uniform(0.5, 1.0)
