"""The server: takes jobs, has workers started, serves logs."""
