"""Waypost's contract as Python says it. The host's interfaces are modules: `session`, `envelope`, `message`, `auth_results`, `scores`, `env`,
and those that world.wit adds: `from waypost import kv`. Their functions and records stand in build/bindings/wit_world/imports.
"""

import importlib
import json

from wit_world.exports.lifecycle import BodyNeed
from wit_world.exports.lifecycle import Registration as _Registration
from wit_world.imports import auth_results, env, envelope, message, scores, session
from wit_world.imports.types import (
    Action_Accept,
    Action_Defer,
    Action_Discard,
    Action_Disconnect,
    Action_Next,
    Action_Quarantine,
    Action_Reject,
    Action_Tempfail,
    Reply,
)

NEXT = Action_Next()
"""No opinion: the next plugin is asked."""
ACCEPT = Action_Accept()
"""Ends this stage's chain: no later plugin is asked."""
DISCARD = Action_Discard()
"""Accepts on the wire, and drops."""


def __getattr__(name):
    """The interfaces that world.wit adds."""
    if name in ("dns", "tables", "kv", "crypto", "http"):
        return importlib.import_module(f"wit_world.imports.{name}")
    raise AttributeError(name)


def _reply(code, status, text):
    first, second, third = map(int, status.split("."))
    return Reply(code, (first, second, third), text)


def reject(code, status, text):
    """Refuses for good: `reject(550, "5.7.1", "…")`."""
    return Action_Reject(_reply(code, status, text))


def tempfail(code, status, text):
    """Asks the client to come back: `tempfail(450, "4.7.1", "…")`."""
    return Action_Tempfail(_reply(code, status, text))


def disconnect(code, status, text):
    """Says this and closes."""
    return Action_Disconnect(_reply(code, status, text))


def quarantine(reason):
    """Holds the message for an operator."""
    return Action_Quarantine(reason)


def defer(seconds):
    """Asks the client to come back after so many seconds."""
    return Action_Defer(seconds)


def Registration(name, version, *, rcpt_domains=(), only_inbound=False, only_authenticated=False, max_size=None):
    """What a plugin says of itself, and how it narrows what it is asked."""
    return _Registration(name, version, list(rcpt_domains), only_inbound, only_authenticated, max_size, BodyNeed(0), 0)


def settings(known):
    """The plugin's section of the configuration. One that is not among the known is a mistake."""
    given = json.loads(env.config() or "{}")
    for name in given:
        if name not in known:
            raise ValueError(f"there is no setting `{name}`; there are {', '.join(known)}")
    return given


def log(text, level=env.Level.INFO):
    """Writes a line to the server's log."""
    env.log(level, text)


def fact(symbol):
    """Whether a plugin before this one, or this one, stated the fact."""
    return any(name == symbol for name, _ in scores.symbols())
