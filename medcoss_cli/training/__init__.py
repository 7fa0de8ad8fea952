"""What both kinds of training share: optimiser, processes, interruption, run folders."""
