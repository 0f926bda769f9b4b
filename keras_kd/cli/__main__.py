"""`python -m keras_kd.cli` is `keras-kd`."""

import sys

from keras_kd.cli import main

sys.exit(main())
