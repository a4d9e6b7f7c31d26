"""The client for asyncio."""

from .follower import Follower, follow
from .mirror import Mirror, Subscription

__all__ = ["Follower", "Mirror", "Subscription", "follow"]
