"""How we stand: models, artifacts and rivals by turns; where the time goes; how far that is from what is possible."""
