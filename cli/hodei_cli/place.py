"""`hodei place`: where a job would go and why, what was decided, and what another strategy would have done."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from typing import Any

import click
from google.protobuf.json_format import ParseDict, ParseError

from hodei.v1 import job_pb2
from hodei_cli.display import as_json, output_option, plain, print_json, print_table
from hodei_cli.session import with_client
from hodei_cli.spec_options import JobCommand, build_spec, spec_options
from hodei_cli.strategies import STRATEGIES
from hodei_client.client import Client

#: Returns how a provider scores for a job: told the job's spec, the provider, and what was recorded of it.
_Score = Callable[[Any, Any, job_pb2.PlacementInputs], float]
#: How each strategy scores from what was recorded; as the server does.
_SCORES: Mapping[str, _Score] = {
    "lowest-cost": lambda _spec, _candidate, inputs: -inputs.cost_per_hour,
    "fastest-startup": lambda _spec, _candidate, inputs: -inputs.start_seconds,
    "most-capacity": lambda _spec, _candidate, inputs: float(inputs.fits),
    "healthiest": lambda _spec, _candidate, inputs: inputs.health,
    "by-labels": lambda _spec, _candidate, inputs: inputs.labels,
}
#: Where strategies of third parties are found, as the server finds them.
_GROUP = "hodei.strategies"


class _Recorded:
    """What is left of a provider in a recorded decision: its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"of a provider only its name and its inputs are recorded, no {name!r}")


def _score_of(strategy: str) -> _Score:
    """Return a strategy, one of ours or one that is installed beside this command."""
    if strategy in _SCORES:
        return _SCORES[strategy]
    found = {entry.name: entry for entry in entry_points(group=_GROUP)}
    if strategy not in found:
        known = ", ".join([*STRATEGIES, *sorted(found)])
        raise click.UsageError(f"--strategy: a replay knows {known}, and what else is installed beside this command")
    try:
        score: _Score = found[strategy].load()
    except (ImportError, AttributeError) as error:
        raise click.UsageError(f"--strategy: {strategy} can't be loaded: {error}") from error
    return score


@click.command("place", cls=JobCommand, context_settings={"allow_interspersed_args": False})
@click.option("--dry-run", is_flag=True, help="Show where the job that the options describe would go now.")
@click.option("--recorded", is_flag=True, help="Print what was decided for --tenant as JSON, for --replay.")
@click.option(
    "--replay",
    type=click.Path(exists=True, dir_okay=False),
    help="Tell what --strategy had decided of what such a file has.",
)
@output_option
@spec_options
@click.pass_context
def place_command(ctx: click.Context, /, *, dry_run: bool, recorded: bool, output: str, **options: Any) -> None:
    """Show where a job would go, what was decided, or what another strategy had done.

    hodei place --dry-run --image debian --cpu 2 -- make

    hodei place --recorded > decisions.json

    hodei place --replay decisions.json --strategy lowest-cost

    A replay tells what would have changed in cost, by the time that attempts ran, and in waiting: the seconds that
    starts were expected to take. Of queues it tells nothing: it chooses among the providers that had room.
    """
    file = options.pop("replay")
    if [dry_run, recorded, file is not None].count(True) != 1:
        raise click.UsageError("say one of --dry-run, --recorded and --replay FILE")
    if recorded:
        _print_recorded(ctx, options["tenant"] or "")
    elif file is not None:
        _replay(file, options["strategy"] or "", output)
    else:
        spec = build_spec(options)
        decision = with_client(ctx, lambda client: client.plan(spec))
        if output == "json":
            print_json(as_json(decision))
            return
        where = f"would go to {decision.provider}" if decision.provider else "would wait"
        limit = f", costing at most {decision.cost_limit:g}" if decision.HasField("cost_limit") else ""
        click.echo(f"{where} by {decision.strategy}{limit}: {plain(decision.reason)}")
        click.echo()
        print_verdicts(decision.candidates)


def print_verdicts(verdicts: Iterable[job_pb2.ProviderVerdict]) -> None:
    """Print providers, what stands for and against them, and what strategies read of them."""
    print_table(
        ("PROVIDER", "NOW", "SCORE", "COST/H", "START", "FITS", "HEALTH", "LABELS", "WHY"),
        [
            (
                each.provider,
                "yes" if each.room else "later" if each.eligible else "no",
                f"{each.score:g}",
                f"{each.inputs.cost_per_hour:g}",
                "ready" if each.inputs.ready else f"{each.inputs.start_seconds:.3g}s/{each.inputs.start_samples}",
                str(each.inputs.fits),
                f"{each.inputs.health:g}",
                f"{each.inputs.labels:g}",
                each.reason,
            )
            for each in verdicts
        ],
    )


def _print_recorded(ctx: click.Context, tenant: str) -> None:
    async def work(client: Client) -> list[job_pb2.Decision]:
        return [decision async for decision in client.decisions(tenant=tenant)]

    print_json([as_json(decision) for decision in with_client(ctx, work)])


def _replay(path: str, strategy: str, output: str) -> None:
    score = _score_of(strategy)
    try:
        with click.open_file(path, encoding="utf-8") as file:
            decisions = [ParseDict(each, job_pb2.Decision()) for each in json.load(file)]
    except (ValueError, TypeError, ParseError) as error:
        raise click.UsageError(f"--replay {path}: is not what --recorded prints: {error}") from None
    try:
        changes = [each for each in (_changed(one, score) for one in decisions) if each is not None]
    except Exception as error:
        raise click.ClickException(f"the strategy {strategy} failed: {error}") from error
    placed = sum(bool(decision.provider) for decision in decisions)
    cost, waiting = sum(each["cost"] for each in changes), sum(each["start_seconds"] for each in changes)
    if output == "json":
        totals = {"decisions": placed, "changed": len(changes), "cost": cost, "start_seconds": waiting}
        print_json({"strategy": strategy, **totals, "changes": changes})
        return
    print_table(
        ("JOB", "ATTEMPT", "WENT TO", "WOULD GO TO", "COST", "START"),
        [
            (
                each["job_id"],
                str(each["attempt_number"]),
                each["provider"],
                each["would"],
                f"{each['cost']:+g}",
                f"{each['start_seconds']:+.3g}s",
            )
            for each in changes
        ],
    )
    click.echo(f"{len(changes)} of {placed} would change: cost {cost:+g}, waiting for starts {waiting:+.3g} s")


def _changed(decision: job_pb2.Decision, score: _Score) -> dict[str, Any] | None:
    """Return how a placement would differ; None where it wouldn't.

    The cost is by the hours that the attempt ran; where it has not ended, by one.
    """
    able = {each.provider: each for each in decision.candidates if each.room}
    if decision.provider not in able:
        return None
    points = {name: score(decision.spec, _Recorded(name), each.inputs) for name, each in able.items()}
    would = min(able.values(), key=lambda each: (each.avoided, -points[each.provider], each.provider))
    if would.provider == decision.provider:
        return None
    before = able[decision.provider].inputs
    hours = decision.ran_seconds / 3600 if decision.HasField("ran_seconds") else 1.0
    return {
        "job_id": decision.job_id,
        "attempt_number": decision.attempt_number,
        "provider": decision.provider,
        "would": would.provider,
        "cost": (would.inputs.cost_per_hour - before.cost_per_hour) * hours,
        "start_seconds": would.inputs.start_seconds - before.start_seconds,
    }
