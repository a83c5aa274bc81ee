"""What is old goes: row by row in bounded batches (`pruning`), or a table at a time where PostgreSQL has partitions (`partitions`).

Promises: nothing that a pending delivery needs is deleted. Not here: how long anything is kept (`settings`), who asks
(`delivery.rescue`).
"""
