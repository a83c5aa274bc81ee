"""A local Close: the parts of its API that this project's handlers and plugins live on, on this machine only.

`World` is the core without HTTP, `create_app` its API as a Flask application, `serve` a server with a thread that
delivers webhooks, `run` the same until it is interrupted. docs/sandbox.md says what is imitated and what is not.
"""

from __future__ import annotations

from webhooks.sandbox.rules import Rules
from webhooks.sandbox.server import create_app, run, serve
from webhooks.sandbox.world import World

__all__ = ["Rules", "World", "create_app", "run", "serve"]
