"""gunicorn reads this file of the working directory by itself: `gunicorn wsgi:app` runs with the settings of `webhooks run`.

What you set below wins over them.
"""

from webhooks.gunicorn_conf import *  # noqa: F403
