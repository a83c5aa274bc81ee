// A graphile-worker task that does nothing. `node tasks_graphile.js N` queues N of them; without N it works.
"use strict";
const { run, makeWorkerUtils } = require("graphile-worker");
const connectionString = process.env.DATABASE_URL;

async function enqueue(count) {
  const utils = await makeWorkerUtils({ connectionString });
  await utils.migrate();
  const payload = { payload: process.env.BENCHMARK_BODY };
  for (; count > 0; count -= 500) {
    await utils.addJobs(Array.from({ length: Math.min(count, 500) }, () => ({ identifier: "nothing", payload })));
  }
  await utils.release();
}

async function work() {
  const { Logger } = require("graphile-worker");
  const worker = { connectionString, concurrentJobs: 10, logger: new Logger(() => () => {}) };
  // its fast settings: jobs are taken 500 at a time into a local queue, and completed in batches
  const fast = { concurrentJobs: 24, maxPoolSize: 8, localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 };
  if (process.env.BENCHMARK_FAST) Object.assign(worker, fast);
  const runner = await run({ preset: { worker }, taskList: { nothing: async () => {} } });
  await runner.promise;
}

if (process.argv[2]) enqueue(Number(process.argv[2]));
else work();
