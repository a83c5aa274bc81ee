"""For those who use other tools beside webhooks; each module names its tool, and nothing here imports another."""
