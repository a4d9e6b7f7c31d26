"""The client for asyncio.

A snapshot is decoded piece by piece as it comes, but compared and applied in one step, which the event loop waits for:
a tenth of a second for some hundred thousand keys. Where that is too long, use the classes of `crumbd`, with threads.
"""

from .follower import Follower, follow
from .mirror import Mirror, Subscription

__all__ = ["Follower", "Mirror", "Subscription", "follow"]
