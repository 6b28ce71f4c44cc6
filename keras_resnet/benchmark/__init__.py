"""How we stand: models, artifacts and rivals by turns; networks compared; where the time goes, and the limits."""
