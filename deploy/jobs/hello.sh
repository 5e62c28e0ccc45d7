# Says where it runs, and that it does.
echo "Hello from $(hostname), as user $(id -u), on $(uname -sr)"
for number in 1 2 3; do
    echo "step $number of 3"
    sleep 0.3
done
echo "to stderr" >&2
