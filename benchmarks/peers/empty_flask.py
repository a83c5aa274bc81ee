"""The ceiling: a Flask view that does nothing, on the same server. It does not even look at the body."""

from __future__ import annotations

from flask import Flask

app = Flask(__name__)


@app.post("/webhooks/close")
def receive() -> str:
    return ""
