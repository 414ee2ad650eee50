"""`python -m deploy.local`: what `./tillstream` runs once everything is installed."""

import sys

from deploy.local.cli import main

sys.exit(main())
