"""`python -m webhooks.sandbox [PORT [URL]]`: a local Close until interrupted; `webhooks sandbox` can do more."""

from __future__ import annotations

import sys

from webhooks.sandbox.server import run

if __name__ == "__main__":
    port, url = [*sys.argv[1:], None, None][:2]
    run(port=int(port or 8765), url=url)
