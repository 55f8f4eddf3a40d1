"""`POST /predict`: the best saved model classifies images of digits."""
