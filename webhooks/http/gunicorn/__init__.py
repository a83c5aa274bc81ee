"""Our part of gunicorn: its settings, worker classes with deadlines, and a short way in for plain posts.

Promises: what the short way reads it reads as gunicorn would; everything else is gunicorn's. What surprises:
`settings` is read in the master before any fork, so nothing of this is imported there but `settings` and `reload`.

A connection meets `gevent_worker` or `thread_worker`, `connections` (how long it may wait), `plain_posts` (what can be
read without a parser), `refusals` (what gunicorn refuses). `settings` names the classes, `reload` keeps answering
while workers change.
"""
