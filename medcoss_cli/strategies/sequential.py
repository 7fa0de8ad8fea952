"""Sequential training: stage after stage, nothing is done against forgetting."""

from medcoss_cli.strategies import Strategy


class Sequential(Strategy):
    """Every batch is new data; the buffer is kept but not used."""

    plain_first_stage = True
