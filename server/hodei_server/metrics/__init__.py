"""What an operator watches, in Prometheus' text; see docs/metrics.md.

collector     what is asked for with each scrape: the database, the providers, the disk
listener      answers scrapes, with `hodei_server.instruments`, which the parts themselves move, too
"""
