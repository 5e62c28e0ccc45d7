# Trains a small neural network in pure Python: its loss falls, and it must be right on points that it has not seen.
# An image's own python3, else that of Hodei's agent, which is in every container.
agent=/opt/hodei-agent
if command -v python3 >/dev/null; then
    set -- python3
elif [ -x "$agent/bin/python3" ]; then
    set -- "$agent/lib/ld.so" --library-path "$agent/lib" --argv0 "$agent/bin/python3" "$agent/bin/python3" -I -S
else
    echo "there is no Python here" >&2
    exit 1
fi
exec "$@" -u - <<'PYTHON'
import math
import random
import sys
import time

HIDDEN, EPOCHS, RATE = 16, 60, 0.1
random.seed(7)


def moons(count):
    """Two half circles that reach into each other, with noise: no straight line parts them."""
    points = []
    for number in range(count):
        label, angle = number % 2, random.uniform(0, math.pi)
        x, y = (1 - math.cos(angle), 0.5 - math.sin(angle)) if label else (math.cos(angle), math.sin(angle))
        points.append((x + random.gauss(0, 0.12), y + random.gauss(0, 0.12), label))
    random.shuffle(points)
    return points


inner = [[random.gauss(0, 1) for _ in range(3)] for _ in range(HIDDEN)]
outer = [random.gauss(0, 0.3) for _ in range(HIDDEN + 1)]


def guess(x, y):
    """What the hidden layer says, and how likely the second half circle is."""
    hidden = [math.tanh(a * x + b * y + c) for a, b, c in inner]
    total = outer[HIDDEN] + sum(weight * value for weight, value in zip(outer, hidden))
    return hidden, 1 / (1 + math.exp(-max(-30.0, min(30.0, total))))


def learn(x, y, label):
    """One step of gradient descent; the loss before it."""
    hidden, likely = guess(x, y)
    error = likely - label
    for number, value in enumerate(hidden):
        slope = error * outer[number] * (1 - value * value)
        outer[number] -= RATE * error * value
        weights = inner[number]
        weights[0] -= RATE * slope * x
        weights[1] -= RATE * slope * y
        weights[2] -= RATE * slope
    outer[HIDDEN] -= RATE * error
    return -math.log(max(1e-12, likely if label else 1 - likely))


training, unseen = moons(1000), moons(500)
print(f"Python {sys.version.split()[0]}: {HIDDEN} hidden units, {len(training)} points to learn, {len(unseen)} to test")
began, losses = time.monotonic(), []
for epoch in range(1, EPOCHS + 1):
    random.shuffle(training)
    losses.append(sum(learn(*point) for point in training) / len(training))
    if epoch in {1, 2, 5} or epoch % 10 == 0:
        print(f"epoch {epoch:3}: loss {losses[-1]:.4f}")
right = sum((guess(x, y)[1] > 0.5) == bool(label) for x, y, label in unseen)
print(f"accuracy {100 * right / len(unseen):.1f} % of unseen points, after {time.monotonic() - began:.1f} s")
if losses[-1] > losses[0] / 2 or right < 0.95 * len(unseen):
    sys.exit("it has not learned")
PYTHON
