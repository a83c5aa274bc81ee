"""For `gunicorn wsgi:app` and `flask --app wsgi`: the service with the settings of this directory."""

from webhooks.app import create_app

app = create_app()
