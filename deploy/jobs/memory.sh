# Fills three quarters of the memory that it was asked to run in, given as $MEBIBYTES, and holds it for two seconds.
fill=$((${MEBIBYTES:-256} * 3 / 4))
echo "filling $fill MiB"
head -c "${fill}m" /dev/zero | tail -c "${fill}m" | {
    sleep 2
    wc -c
}
grep -h . /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null | sed 's/^/limit in bytes: /'
echo "filled and let go"
