# Fills memory until nine tenths of its limit are in use, holds that for two seconds, and tells how much it was. It was asked
# to run in $MEBIBYTES; without a limit of about as much it fills three quarters of these.
mebibytes=${MEBIBYTES:-256}
for group in /sys/fs/cgroup /sys/fs/cgroup/memory; do
    for files in "memory.max memory.current" "memory.limit_in_bytes memory.usage_in_bytes"; do
        if [ -r "$group/${files% *}" ]; then limit_file=$group/${files% *} usage_file=$group/${files#* }; fi
    done
done
limit=$(cat "${limit_file:-/dev/null}" 2>/dev/null)
# Where there is none, the file says "max", or the most that there can be; a much larger one is somebody else's.
if [ -z "$limit" ] || [ "$limit" = max ] || [ "$limit" -gt $((mebibytes * 2097152)) ]; then limit=0; fi

if [ "$limit" -gt 0 ]; then
    fill=$((limit * 93 / 100 - $(cat "$usage_file")))
else
    fill=$((mebibytes * 1048576 * 3 / 4))
fi
echo "filling $((fill / 1048576)) MiB"
used=$(head -c "$fill" /dev/zero | tail -c "$fill" | {
    sleep 2
    if [ "$limit" -gt 0 ]; then cat "$usage_file"; else echo "$fill"; fi
    cat >/dev/null
})
if [ "$limit" -gt 0 ]; then
    echo "in use: $((used / 1048576)) of $((limit / 1048576)) MiB, $((used * 100 / limit)) %"
    if [ $((used * 100 / limit)) -lt 90 ]; then
        echo "that is not near the limit" >&2
        exit 1
    fi
fi
echo "filled and let go"
