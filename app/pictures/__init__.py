"""From pictures and strokes to the 8×8 pixels that models are trained on; loaded when the first picture comes."""
