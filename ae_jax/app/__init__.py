"""The parts that a person uses: the command line, files, pictures, the report."""
