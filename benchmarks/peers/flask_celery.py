"""Flask that hands the event to Celery over Redis and keeps nothing itself. No dedup; durable as far as Redis is."""

from __future__ import annotations

import os

from celery import Celery
from flask import Flask, abort, request
from flask.typing import ResponseReturnValue

from benchmarks.peers.signatures import is_signed

celery = Celery("benchmark", broker=os.environ["BENCHMARK_REDIS"])
celery.conf.update(task_ignore_result=True, task_default_queue=os.environ["BENCHMARK_QUEUE"])
app = Flask(__name__)


@celery.task  # type: ignore[untyped-decorator]
def nothing(payload: object) -> None:
    pass


@app.post("/webhooks/close")
def receive() -> ResponseReturnValue:
    if not is_signed(request.headers, request.get_data()):
        abort(401)
    nothing.delay(request.get_json())
    return {"status": "queued"}, 202
