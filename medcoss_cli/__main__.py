"""python -m medcoss_cli, as torchrun starts it."""

from medcoss_cli.cli.app import main

if __name__ == "__main__":
    main()
