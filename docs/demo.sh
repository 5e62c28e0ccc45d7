#!/bin/sh
# The job of `make demo`: prints on both streams for about four seconds, then ends with exit code 3.
echo "Hello from a Hodei job: process $$ in $(pwd)"
for step in 1 2 3 4 5 6 7 8; do
    echo "step $step of 8"
    if [ $((step % 3)) -eq 0 ]; then
        echo "step $step writes to the other stream" >&2
    fi
    sleep 0.5
done
printf 'a last line without a newline'
exit 3
