"""The version of this package; setup.cfg and `webhooks.__version__` take it from here."""

VERSION = "0.1.0"
