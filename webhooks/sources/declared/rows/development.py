"""Rows of senders that tell of code, deployments and operations. Facts carry the page that they come from."""

from __future__ import annotations

from webhooks.sources.declared.scheme import Scheme

DEVELOPMENT_ROWS: tuple[Scheme, ...] = (
    Scheme(
        name="gitlab",
        title="GitLab (secret token)",
        documentation="https://docs.gitlab.com/user/project/integrations/webhooks/",
        retries=(
            "Tries again under the same Idempotency-Key (https://docs.gitlab.com/user/project/integrations/webhooks/)."
        ),
        algorithm="token",
        signature=("@x-gitlab-token",),
        id=("{@idempotency-key}", "{@x-gitlab-event-uuid}", ""),  # older versions send the second, or none
        type=("{object_kind}.{object_attributes.action}", "{object_kind}", "{event_name}"),
        occurred_at=("{object_attributes.updated_at}",),
        object_id=("{project.path_with_namespace}",),
    ),
    Scheme(
        name="bitbucket",
        title="Bitbucket",
        documentation="https://support.atlassian.com/bitbucket-cloud/docs/manage-webhooks/",
        signature=("@x-hub-signature",),
        prefix="sha256=",
        id=("{@x-request-uuid}",),
        type=("{@x-event-key}",),
        dotted=":",
        object_id=("{repository.full_name}",),
    ),
    Scheme(
        name="jira",
        title="Jira Cloud (webhooks with a secret)",
        documentation="https://developer.atlassian.com/cloud/jira/platform/webhooks/",
        retries=(
            "Tries again up to 5 times, 5 to 15 min apart, after 408, 409, 425, 429, 5xx and lost connections "
            "only, under the same identifier (https://developer.atlassian.com/cloud/jira/platform/webhooks)."
        ),
        signature=("@x-hub-signature",),
        prefix="sha256=",
        id=("{@x-atlassian-webhook-identifier}", ""),
        type=("{webhookEvent}",),
        dotted=":",
        occurred_at=("{timestamp}",),
        object_id=("{issue.key}",),
    ),
    Scheme(
        name="vercel",
        title="Vercel",
        documentation="https://vercel.com/docs/webhooks/webhooks-api",
        algorithm="hmac-sha1",
        signature=("@x-vercel-signature",),
        id=("{id}",),
        occurred_at=("{createdAt}",),
        object_id=("{payload.project.id}",),
        data="payload",
    ),
    Scheme(
        name="sentry",
        title="Sentry (integration platform)",
        documentation="https://docs.sentry.io/organization/integrations/integration-platform/webhooks/",
        signature=("@sentry-hook-signature",),
        id=("{@request-id}",),
        type=("{@sentry-hook-resource}.{action}",),
        object_id=("{data.issue.id}", "{installation.uuid}"),
        data="data",
    ),
    Scheme(
        name="pagerduty",
        title="PagerDuty (webhooks v3)",
        documentation="https://docs.pagerduty.com/developer/verifying-webhook-signatures",
        signature=("@x-pagerduty-signature",),
        split=",",
        prefix="v1=",
        id=("{event.id}",),
        type=("{event.event_type}",),
        occurred_at=("{event.occurred_at}",),
        object_id=("{event.data.id}",),
        data="event.data",
    ),
    Scheme(
        name="circleci",
        title="CircleCI",
        documentation="https://circleci.com/docs/guides/integration/outbound-webhooks/",
        signature=("@circleci-signature",),
        split=",",
        prefix="v1=",
        id=("{id}",),
        occurred_at=("{happened_at}",),
        object_id=("{project.slug}",),
    ),
)
