"""Logs as the server holds them: what is being written, what is kept, and cursors on both.

book         all logs: those being written, and the way from an attempt to its segments
open_log     one log while it is written; memory bounds what all of them hold; figures, what a stretch amounts to
cursor       a place in a log, and how it moves; changes is how it waits
search, verify, receipt
             lines that match; bytes compared with what is written down; what a log amounts to
retention, expiring
             what has expired goes, or is told
manifest     what stands in S3 beside a log's segments
"""
