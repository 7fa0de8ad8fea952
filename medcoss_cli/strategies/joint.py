"""Joint training: all modalities in one stage, the comparison without an order (the paper's Joint SSL rows)."""

from medcoss_cli.strategies import Strategy


class Joint(Strategy):
    """Plain training in a single stage of several modalities; each batch is of one of them and has a mean of its own."""

    single_stage = True
