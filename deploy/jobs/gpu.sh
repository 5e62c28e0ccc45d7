# Reports the GPU that it was given; fails where there is none to be seen.
if command -v nvidia-smi >/dev/null && nvidia-smi --list-gpus; then exit; fi
found=$(ls -d /dev/nvidia[0-9]* /dev/dri/render* /dev/kfd 2>/dev/null)
if [ -z "$found" ]; then
    echo "a GPU was asked for, and none is to be seen here" >&2
    exit 1
fi
echo "$found"
