"""What the report is made of: scores, pictures, the page."""
