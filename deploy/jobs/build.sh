# Compiles a program of several parts, links it and tests what came out. Where the image has a C compiler, in C; the
# worker's own has none, by design: there it compiles Python to bytecode, packs it, and runs that without its sources.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

for name in cc gcc clang; do
    if command -v "$name" >/dev/null; then compiler=$name && break; fi
done

if [ -n "$compiler" ]; then
    "$compiler" --version | head -n 1
    cat >sieve.h <<'C'
#include <stddef.h>
size_t sieve(unsigned char *composite, size_t limit);
C
    cat >sieve.c <<'C'
#include "sieve.h"
size_t sieve(unsigned char *composite, size_t limit) {
    size_t count = 0;
    for (size_t n = 2; n <= limit; n++) {
        if (composite[n]) continue;
        count++;
        for (size_t multiple = n * n; multiple <= limit; multiple += n) composite[multiple] = 1;
    }
    return count;
}
C
    cat >main.c <<'C'
#include <stdio.h>
#include <stdlib.h>
#include "sieve.h"
int main(int argc, char **argv) {
    size_t limit = argc > 1 ? strtoul(argv[1], NULL, 10) : 100;
    unsigned char *composite = calloc(limit + 1, 1);
    if (!composite) return 1;
    printf("%zu\n", sieve(composite, limit));
    free(composite);
    return 0;
}
C
    for source in main.c sieve.c; do
        echo "compiling $source"
        "$compiler" -std=c99 -O2 -Wall -Wextra -Werror -c "$source"
    done
    echo "linking primes"
    "$compiler" -o primes main.o sieve.o
    size=$(wc -c <primes)
    found=$(./primes 5000000)
else
    agent=/opt/hodei-agent
    if command -v python3 >/dev/null; then
        set -- python3
    elif [ -x "$agent/bin/python3" ]; then
        set -- "$agent/lib/ld.so" --library-path "$agent/lib" --argv0 "$agent/bin/python3" "$agent/bin/python3" -I -S
    else
        echo "there is neither a C compiler nor Python here" >&2
        exit 1
    fi
    echo "no C compiler; $("$@" --version)"
    mkdir source
    cat >source/sieve.py <<'PYTHON'
def sieve(limit):
    composite = bytearray(limit + 1)
    count = 0
    for n in range(2, limit + 1):
        if not composite[n]:
            count += 1
            composite[n * n :: n] = b"\1" * len(range(n * n, limit + 1, n))
    return count
PYTHON
    printf 'import sys\n\nfrom sieve import sieve\n\nprint(sieve(int(sys.argv[1])))\n' >source/__main__.py
    # Beside the program a good part of Python's own library, so that there is something to do.
    mkdir source/library
    library=$("$@" -c 'import os; print(os.path.dirname(os.__file__))')
    for part in asyncio collections concurrent email encodings html http importlib json logging unittest xml; do
        cp -R "$library/$part" source/library
    done
    echo "compiling $(find source -name '*.py' | wc -l) modules"
    "$@" -m compileall -q -b source
    find source -name '*.py' -delete
    find source -name __pycache__ -prune -exec rm -r {} +
    echo "packing primes"
    "$@" -m zipfile -c primes source/*
    size=$(wc -c <primes)
    found=$("$@" primes 5000000)
fi

echo "primes: $size bytes; it finds $found up to 5000000"
if [ "$found" -ne 348513 ]; then
    echo "that is wrong: there are 348513" >&2
    exit 1
fi
