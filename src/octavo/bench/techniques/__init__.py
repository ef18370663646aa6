"""What each technique gains: the same work by the same code with the technique on and off, in turn."""
