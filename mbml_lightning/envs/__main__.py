"""``python -m mbml_lightning.envs``: the registered environments, as ``mbml envs`` shows them."""

import sys

from mbml_lightning.envs.catalogue import main

main(sys.argv[1:])
