"""What tools answer: the contract's messages as models whose fields say their units and what absence means."""
