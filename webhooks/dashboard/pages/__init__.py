"""The pages, a module a group: each takes what it shows from `store` and `operations` and gives it to a template.

Promises: nothing is decided here and nothing asked of the database in another way than the command line does. How a page
is added: `webhooks.dashboard`. `GROUPS` in `webhooks.dashboard.endpoints` names the modules.
"""
