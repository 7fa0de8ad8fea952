"""Fine-tuning: from a recipe to a head on an encoder, trained, tested and used."""
