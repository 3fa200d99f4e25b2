"""What turns the pages into a site: code blocks are run, code is taken from the package, pictures are drawn."""
