"""`python -m webhooks` is the console script."""

from webhooks.cli import main

main()
