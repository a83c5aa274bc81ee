"""A body as people read it: from its bytes, with numbers and the order of keys as they were sent.

Promises: whatever a body holds, drawing it takes bounded time, memory and HTML, without recursion; nothing of it is
interpreted. `scan` cuts JSON into lines, `draw` makes them foldable, `paths` says how a selection names what is on one.
What is no JSON, `text` shows as text or as bytes.
"""
