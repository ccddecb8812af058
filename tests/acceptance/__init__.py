"""What a deployment and its users see."""
