"""A simulator of the service with scripted faults, for users' tests and this library's own.

Names are imported when they are first used: pytest imports this package for its plugin in every run, and most runs
need none of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .faults import Fault, FaultRule
    from .log import LoggedCallback, LoggedRequest
    from .service.state import Campaign, StoredLead
    from .settings import FailedFile, Settings
    from .simulator import Simulator, serve
    from .window import RateWindow, worst_window

__all__ = [
    "Campaign",
    "FailedFile",
    "Fault",
    "FaultRule",
    "LoggedCallback",
    "LoggedRequest",
    "RateWindow",
    "Settings",
    "Simulator",
    "StoredLead",
    "serve",
    "worst_window",
]

_HOME = {
    "Campaign": "service.state",
    "FailedFile": "settings",
    "Fault": "faults",
    "FaultRule": "faults",
    "LoggedCallback": "log",
    "LoggedRequest": "log",
    "RateWindow": "window",
    "Settings": "settings",
    "Simulator": "simulator",
    "StoredLead": "service.state",
    "serve": "simulator",
    "worst_window": "window",
}


# Hidden from type checkers, to which a module with `__getattr__` has every name, misspelt ones too.
if not TYPE_CHECKING:

    def __getattr__(name):
        home = _HOME.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals().setdefault(name, getattr(import_module(f"{__name__}.{home}"), name))

    def __dir__():
        return sorted({*globals(), *__all__})
