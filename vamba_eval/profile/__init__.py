"""What models cost as videos grow longer."""
