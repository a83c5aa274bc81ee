// Fastify with pg, one process a core: the same two inserts as fastapi_asyncpg.py, in one statement or in a transaction.
"use strict";
const cluster = require("cluster");
const crypto = require("crypto");

const EVENT = "insert into plain_events (event_id, type, payload) values ($1, $2, $3) on conflict do nothing returning id";
const DELIVERY = "insert into plain_deliveries (event_id, handler) values ($1, 'nothing')";
const BOTH = `with e as (${EVENT}), d as (insert into plain_deliveries (event_id, handler) select id, 'nothing' from e) select id from e`;

if (cluster.isPrimary) {
  for (let n = 0; n < Number(process.env.WEB_CONCURRENCY); n++) cluster.fork();
  process.on("SIGTERM", () => process.exit(0));
} else {
  const { Pool } = require("pg");
  const pool = new Pool({ connectionString: process.env.DATABASE_URL, max: 10 });
  const key = Buffer.from(process.env.BENCHMARK_SECRET, "hex");
  const inOne = process.env.BENCHMARK_STATEMENTS === "one";
  const app = require("fastify")({ logger: false });

  app.addContentTypeParser("application/json", { parseAs: "buffer" }, (request, body, done) => done(null, body));
  app.post("/webhooks/close", async (request, reply) => {
    const mac = crypto.createHmac("sha256", key).update(request.headers["close-sig-timestamp"] || "").update(request.body);
    const given = Buffer.from(request.headers["close-sig-hash"] || "");
    const expected = Buffer.from(mac.digest("hex"));
    if (given.length !== expected.length || !crypto.timingSafeEqual(given, expected)) return reply.code(401).send();
    const text = request.body.toString();
    const entry = JSON.parse(text).event;
    const row = [entry.id, `${entry.object_type}.${entry.action}`, text];
    let stored;
    if (inOne) {
      stored = await pool.query({ name: "both", text: BOTH, values: row });
    } else {
      const client = await pool.connect();
      try {
        await client.query("begin");
        stored = await client.query({ name: "event", text: EVENT, values: row });
        if (stored.rows.length) await client.query({ name: "delivery", text: DELIVERY, values: [stored.rows[0].id] });
        await client.query("commit");
      } catch (error) {
        await client.query("rollback");
        throw error;
      } finally {
        client.release();
      }
    }
    return stored.rows.length ? { status: "stored", id: stored.rows[0].id } : { status: "duplicate" };
  });
  app.listen({ port: Number(process.env.PORT), host: "127.0.0.1" });
}
