"""``python -m mbml_lightning`` is ``mbml``."""

from mbml_lightning.cli.main import main

main()
