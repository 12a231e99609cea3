"""What single resources do differently from the generic strategy: a module each."""
