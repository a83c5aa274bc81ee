"""What people do, kept on record: shown before, carried out in steps, and taken back.

Promises: every change that is asked for by a command, a page, a token or a program is on record before it is made, or in
the same transaction, with who asked, by which door, for what, why, and what came of it. What changes many deliveries is
frozen when it is confirmed, happens once however often it is pressed, and ends with every row once whichever process is
killed. Rows are appended; age alone takes them away, after 400 days.

`verbs` says what there is and what takes each back. `journal` puts on record what is done in one go, `bulk` what is done
in steps (`operations.requeue`, `operations.cancel`); `preview` says what would be done, `undo` takes back, `duty` is the
worker that carries out what pages asked for. `activity` is all of it for a page or a command, `documents` its JSON.

Not here: logins and roles (who is allowed what), and what handlers do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.operations.actions.activity import ActivityLog as ActivityLog
    from webhooks.operations.actions.bulk import LEFT_SAYS as LEFT_SAYS
    from webhooks.operations.actions.bulk import BulkChange as BulkChange
    from webhooks.operations.actions.bulk import Left as Left
    from webhooks.operations.actions.documents import action_json as action_json
    from webhooks.operations.actions.documents import preview_json as preview_json
    from webhooks.operations.actions.documents import sentence as sentence
    from webhooks.operations.actions.duty import ActionsDuty as ActionsDuty
    from webhooks.operations.actions.journal import Journal as Journal
    from webhooks.operations.actions.journal import JournalEntry as JournalEntry
    from webhooks.operations.actions.preview import Preview as Preview
    from webhooks.operations.actions.undo import CannotUndo as CannotUndo
    from webhooks.operations.actions.undo import Undo as Undo
    from webhooks.operations.actions.verbs import FACTS as FACTS
    from webhooks.operations.actions.verbs import Verb as Verb
    from webhooks.operations.actions.verbs import facts_of as facts_of
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "activity": ["ActivityLog"],
            "bulk": ["BulkChange", "LEFT_SAYS", "Left"],
            "documents": ["action_json", "preview_json", "sentence"],
            "duty": ["ActionsDuty"],
            "journal": ["JournalEntry", "Journal"],
            "preview": ["Preview"],
            "undo": ["CannotUndo", "Undo"],
            "verbs": ["FACTS", "Verb", "facts_of"],
        },
    )
