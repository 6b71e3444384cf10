"""What one user keeps: nothing yet in the database."""
