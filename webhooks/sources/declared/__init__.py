"""Senders described as data: a row says how a request is signed, what its events look like and how its handshake goes.

`scheme` is the language, `schemes` the table with the page that each fact comes from, `source` does what a row says, in
steps: `decode` (keys), `proof` (that a request is the sender's: here a 401 begins), `parse`, `handshakes` (for senders that ask
whether an address is ours), `sign`. `fields` takes values out of bodies.
"""
