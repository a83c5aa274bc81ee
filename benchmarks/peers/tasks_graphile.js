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
  // its fast settings, as its documentation has them: a local queue, completions in batches
  const preset = {
    worker: {
      connectionString,
      concurrentJobs: 24,
      maxPoolSize: 8,
      localQueue: { size: 500 },
      completeJobBatchDelay: 0,
      failJobBatchDelay: 0,
      logger: new Logger(() => () => {}),
    },
  };
  const runner = await run({ preset, taskList: { nothing: async () => {} } });
  await runner.promise;
}

if (process.argv[2]) enqueue(Number(process.argv[2]));
else work();
