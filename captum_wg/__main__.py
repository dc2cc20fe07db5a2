"""python -m captum_wg: the command line."""

import sys

from captum_wg.command_line import main

if __name__ == "__main__":
    sys.exit(main())
