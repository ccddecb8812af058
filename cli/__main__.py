"""`python -m atm_cli` is `atm`."""

import sys

from atm_cli.main import main

sys.exit(main())
