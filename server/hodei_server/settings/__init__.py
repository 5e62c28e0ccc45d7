"""The server's settings: one object, read once from `HODEI_*` variables and a file, handed down.

model           the object: every group of settings in one
server, listeners, providers, placement, workers, logs, s3, secrets
                a group each: its settings, how they are checked, and what is made of them
pools, pool_schedule, prices
                options that every provider may have, beside its kind's own
provider_tables which providers there are, and what is given to each: variables, and tables of the file
file            the file that HODEI_CONFIG_FILE names
reading         reads all of it; names variables that nothing reads
shown           how settings are shown to people
page            docs/configuration.md; ``python -m hodei_server.settings --markdown`` prints it
values          durations, sizes, values by tenant: how they are read and written; the error that names what is wrong
"""

from hodei_server.settings.model import Settings
from hodei_server.settings.page import markdown
from hodei_server.settings.reading import load_settings, unknown_variables
from hodei_server.settings.shown import show
from hodei_server.settings.values import SettingsError

__all__ = ["Settings", "SettingsError", "load_settings", "markdown", "show", "unknown_variables"]
