"""`python -m hodei_worker`."""

import sys

from hodei_worker.main import main

sys.exit(main())
