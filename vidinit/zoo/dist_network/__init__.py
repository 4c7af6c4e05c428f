"""DiST (ICCV 2023): a frozen image transformer and the network that learns beside it."""
