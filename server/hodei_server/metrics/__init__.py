"""What an operator watches, in Prometheus' text; see docs/metrics.md.

instruments   what is counted and timed as it happens, by the parts themselves
collector     what is asked for with each scrape: the database, the providers, the disk
listener      answers scrapes
"""
