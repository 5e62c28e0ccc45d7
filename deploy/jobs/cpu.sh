# Loads so many processors as $PROCESSORS says, by default all, for ten seconds; tells how many loops each has done.
count=${PROCESSORS:-$(nproc)}
echo "loading $count processors"
begin=$(date +%s)
for number in $(seq "$count"); do
    (
        loops=0
        while [ $(($(date +%s) - begin)) -lt 10 ]; do
            i=0
            while [ $i -lt 20000 ]; do i=$((i + 1)); done
            loops=$((loops + 1))
        done
        echo "processor $number: $loops times 20000 steps"
    ) &
done
wait
