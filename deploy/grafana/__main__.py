"""Write `webhooks.json` beside this file: `python -m deploy.grafana`."""

from pathlib import Path

from deploy.grafana.dashboard import as_json

Path(__file__).with_name("webhooks.json").write_text(as_json(), "utf-8")
