"""Bring tables to where the code wants them: the core's, and those of each plugin.

Promises: a history is upgraded in one transaction under a lock, or not at all. Not here: the core's migrations
themselves, which are the directory `migrations` of the project.

`histories` reads what migrations there are, with `ownership`, which asks them what tables they make; `compare` says how
far a database is; `run` changes it, by `sqlite` or `postgresql`.
"""
