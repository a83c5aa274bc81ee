"""The `session` that a handler gets: its writes and the delivery's done-mark commit together, or not at all.

`Sessions.open` hands out a `HandlerSession`: an ORM `Session` on a transaction that belongs to the dispatcher.
`session.commit()`, `rollback()` and `close()` act on savepoints below it. Whatever would end the transaction itself is
refused, in text, on the connection and on the driver's connection, with what to do instead.

The end of an attempt is one critical section (`HandlerSession.finish`): from the question whether it may still commit to
the end of COMMIT nothing can get between. The store writes the done-mark only against an `OpenTransaction`, which is
made nowhere else. `HandlerSession.abort`, from any thread, either comes before it, and nothing commits, or waits.

Nothing of one attempt reaches the next. A handler never holds a connection itself, only objects that are made for its
attempt and refuse to work afterwards (`proxy`). What a statement did is asked of the database (`sqlite`: the authorizer;
`postgresql`: the protocol), and what may have left traces that a reset does not undo is closed.

Several runs of a handler may share one transaction (`shared`), if nothing of one shows to another but its writes.

In the order in which a handler meets them: `sessions`, `orm`, `proxy`, `outer`, and one module for each database;
`statements` reads the first words of a statement, for PostgreSQL.

Not kept: what a function on the server leaves in a language's globals, or a library that it loads.
"""

from webhooks.session.outer import DoneMark, NeedsOwnTransaction, OpenTransaction, PreparedStatement
from webhooks.session.sessions import HandlerSession, Sessions
from webhooks.session.shared import SharedSession

__all__ = [
    "DoneMark", "HandlerSession", "NeedsOwnTransaction", "OpenTransaction", "PreparedStatement", "Sessions", "SharedSession",
]  # fmt: skip
