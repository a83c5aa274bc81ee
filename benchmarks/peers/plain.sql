-- The tables of fastapi_asyncpg.py and fastify.js.
create table plain_events (
    id bigint generated always as identity primary key,
    event_id text unique not null,
    type text not null,
    payload text not null,
    received_at timestamptz not null default now()
);
create table plain_deliveries (
    id bigint generated always as identity primary key,
    event_id bigint not null,
    handler text not null,
    status text not null default 'pending'
);
create index plain_pending on plain_deliveries (id) where status = 'pending';
