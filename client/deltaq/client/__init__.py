"""What a program imports: Client, Future, errors."""
