"""Pages of HTML that need nothing else, and their charts."""
