"""Tests of handlers, without a server, a worker or a network. The fixture `webhooks` comes with the package."""


def test_an_incoming_message_is_greeted_once(webhooks):
    posted = webhooks.post("activity.whatsapp_message.created", set={"data.text": "Hello!"}, times=2)
    assert posted.status == "stored"
    [run] = webhooks.drain()
    assert (run.handler, run.outcome) == ("hello.whatsapp", "succeeded")
    assert run.event.data["text"] == "Hello!"


def test_a_wrong_signature_is_refused(webhooks):
    assert webhooks.post("activity.whatsapp_message.created", signature="wrong").http_status == 401
    assert webhooks.deliveries() == []
