"""What a person touches: the command line, files, pictures, the report."""
