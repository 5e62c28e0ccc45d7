"""Settings of attempts and of the workers that run them: how long each may take, be silent, or wait."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from hodei_server.settings.values import Duration, SettingsGroup


class WorkerGroup(SettingsGroup):
    """How long attempts and workers may take."""

    title: ClassVar[str] = "Attempts and workers"

    start_timeout: Duration = Field(300.0, description="From dispatch to the process's start.")
    cancel_grace: Duration = Field(10.0, description="Between SIGTERM and SIGKILL where the job does not say.")
    run_margin: Duration = Field(
        30.0, description="What a worker gets beyond run timeout and grace before it is removed."
    )
    lease: Duration = Field(30.0, description="A worker silent for longer is asked for at its provider.")
    ping_interval: Duration = Field(
        10.0, gt=0, lt=60, description="Between pings of worker and server, both ways; under a minute."
    )
    orphan_after: Duration = Field(600.0, description="Without an acknowledged ping for so long a worker ends its job.")
    stray_grace: Duration = Field(
        60.0, description="Workers of this installation that it does not know are removed after so long."
    )
