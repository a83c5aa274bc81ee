"""Bring tables to where the code wants them: the core's, and those of each plugin.

Promises: a history is upgraded in one transaction under a lock, or not at all. Not here: the core's migrations
themselves, which are the directory `migrations` of the project.

`run` reads histories, compares and upgrades; `ownership` asks migrations which tables they make.
"""
