"""How certain numbers are: resampling, intervals, tests, and moments of gradients."""
