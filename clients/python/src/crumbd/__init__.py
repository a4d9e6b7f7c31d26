"""Client of crumbd: the state of a daemon and every change of it. `crumbd.aio` has the same for asyncio."""

from .digest import digest_of
from .errors import CrumbdError, RefusedError
from .events import Change, ChangeType, Event, Holding, Notice, Retrying, Undecodable
from .follower import Follower, follow
from .mirror import Mirror, Subscription
from .options import Options, Settings

__all__ = [
    "Change",
    "ChangeType",
    "CrumbdError",
    "Event",
    "Follower",
    "Holding",
    "Mirror",
    "Notice",
    "Options",
    "RefusedError",
    "Retrying",
    "Settings",
    "Subscription",
    "Undecodable",
    "digest_of",
    "follow",
]
