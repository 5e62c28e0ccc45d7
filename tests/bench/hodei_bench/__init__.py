"""The benches, one file for each group; `harness` has what they share, `peer` what they are compared with."""
