"""What a run did, made visible: the table in the terminal, the page of strips."""
