"""`POST /predict`: digits from images, by the best saved model."""
