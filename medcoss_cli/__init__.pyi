from medcoss_cli.python import finetune as finetune
from medcoss_cli.python import load as load

__version__: str
