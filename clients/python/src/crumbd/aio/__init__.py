"""The client for asyncio."""

from .follower import Follower, follow

__all__ = ["Follower", "follow"]
