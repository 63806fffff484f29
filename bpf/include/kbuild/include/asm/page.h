// PAGE_SIZE comes from the command line.
