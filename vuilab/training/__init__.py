"""Options, devices, the loop over epochs, and the recipes."""
