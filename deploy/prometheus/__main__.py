"""Write `webhooks.rules.yml` beside this file: `python -m deploy.prometheus`."""

from pathlib import Path

from deploy.prometheus.rules import as_yaml

Path(__file__).with_name("webhooks.rules.yml").write_text(as_yaml(), "utf-8")
