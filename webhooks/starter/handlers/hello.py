"""An example handler: change it, or write your own beside it. Every module in this directory is loaded."""

from webhooks import on


@on("activity.whatsapp_message.created", source="close", name="hello.whatsapp")
def greet(event, log):
    """Runs once for each new WhatsApp message; if it raises, it is run again later."""
    log.info("WhatsApp from %s: %s", event.data.get("remote_phone"), event.data.get("text"))


# With `session` in its arguments, what a handler writes and the mark "done" are committed together, so it happens
# exactly once:
#
# @on("lead.updated", source="close", where=changed("status_id"), ordered_by="object_id")
# def mirror(event, session):
#     session.execute(text("update leads set status = :status where id = :id"), {...})
