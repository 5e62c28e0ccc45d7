"""The server: takes jobs, has workers started, serves logs.

From above, each knowing only what stands below it:

running           how a server is run: as a command, or inside another process
app               the composition root: what it is made of, in which order it comes up and goes down
loops, metrics    what it does by itself; what an operator watches
rpc               what it answers on the wire
work              what is done about jobs: placed, given to workers, ended
logs              logs being written, and cursors on them
secrets           the values of jobs' secrets, kept encrypted
db                state: tables, moves, queries
domain            what a job is and which moves it may make; pure

Beside them, for the composition root: `settings`, and `part_settings` of them; `opening`, `worker_listeners`,
`log_archive`, `lifecycle_rule`, `strategy_registry`, what settings name; `data_folder`, `installation`, `clock_watch`,
`authority`, what one installation is and may do; `journal`, `instruments`, `allocator`, the process's own affairs.
"""
