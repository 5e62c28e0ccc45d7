"""``python -m hodei_server.settings --markdown`` prints docs/configuration.md."""

import sys

from hodei_server.settings.page import markdown

sys.stdout.write(markdown())
