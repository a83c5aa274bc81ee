"""What the operator says: `webhooks.toml`, then the environment, then what the application hands in.

Promises: all mistakes are told at once, before anything starts, each with what to do. No other package reads
the environment. Not here: secrets themselves (`sources.keys` reads them), gunicorn's own settings
(`http.gunicorn.settings`).

`load` reads the layers with the readers of `values`, has `checks` look at them together, `directory` says which directory that was, and makes `settings`, with each of `sources`, the
targets of `alarms` and the section of `dashboard`; `service_links` knows what Kubernetes sets beside us, `logs` sets up how the service
writes its log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.settings.alarms import TARGET_KEYS as TARGET_KEYS
    from webhooks.settings.alarms import AlarmTarget as AlarmTarget
    from webhooks.settings.checks import require_dedup_covers as require_dedup_covers
    from webhooks.settings.checks import require_sources as require_sources
    from webhooks.settings.dashboard import UNIX as UNIX
    from webhooks.settings.dashboard import DashboardProxy as DashboardProxy
    from webhooks.settings.dashboard import DashboardSettings as DashboardSettings
    from webhooks.settings.dashboard import DashboardToken as DashboardToken
    from webhooks.settings.dashboard import PasswordUser as PasswordUser
    from webhooks.settings.directory import is_project as is_project
    from webhooks.settings.directory import project_near as project_near
    from webhooks.settings.directory import where_read as where_read
    from webhooks.settings.load import load_settings as load_settings
    from webhooks.settings.load import require_labels as require_labels
    from webhooks.settings.logs import guard_tracebacks as guard_tracebacks
    from webhooks.settings.logs import set_up_logging as set_up_logging
    from webhooks.settings.settings import FALLBACKS as FALLBACKS
    from webhooks.settings.settings import FIELDS as FIELDS
    from webhooks.settings.settings import FILE as FILE
    from webhooks.settings.settings import SETTINGS as SETTINGS
    from webhooks.settings.settings import Settings as Settings
    from webhooks.settings.sources import Secret as Secret
    from webhooks.settings.sources import SourceSettings as SourceSettings
    from webhooks.settings.values import hide_password as hide_password
    from webhooks.settings.values import read_database_url as read_database_url
    from webhooks.settings.values import read_duration as read_duration
    from webhooks.settings.values import read_size as read_size
    from webhooks.settings.values import shown as shown
    from webhooks.settings.values import shown_path as shown_path
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "alarms": ["TARGET_KEYS", "AlarmTarget"],
            "dashboard": ["UNIX", "DashboardProxy", "DashboardSettings", "DashboardToken", "PasswordUser"],
            "checks": ["require_dedup_covers", "require_sources"],
            "directory": ["is_project", "project_near", "where_read"],
            "load": ["load_settings", "require_labels"],
            "logs": ["guard_tracebacks", "set_up_logging"],
            "settings": ["FALLBACKS", "FIELDS", "FILE", "SETTINGS", "Settings"],
            "sources": ["Secret", "SourceSettings"],
            "values": ["hide_password", "read_database_url", "read_duration", "read_size", "shown", "shown_path"],
        },
    )
