"""`python -m migrations "what changes"` drafts the next revision from `app/db/tables.py`."""

import sys

from app.db.migrate import draft

if len(sys.argv) != 2:
    sys.exit(__doc__)
sys.stdout.write(f"{draft(sys.argv[1])}\nFinish it by hand, and set HEAD in migrations/__init__.py.\n")
