"""Our part of gunicorn: its settings, worker classes with deadlines, and a direct route for plain posts.

Promises: what the direct route reads it reads as gunicorn would; everything else is gunicorn's. What surprises:
`settings` is read in the master before any fork, so nothing of this is imported there but `settings` and `reload`.

A connection meets `gevent_worker` or `thread_worker`, `connections` (how long it may wait), `plain_posts` (what can be
read without a parser), `wire` (what gunicorn's parser gets of the rest) and `refusals` (what it refuses). `settings`
names the classes, `conditions` says what gunicorn's own settings mean for them, `reload` keeps answering while workers
change.
"""
