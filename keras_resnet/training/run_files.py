"""Names of the files of a run, for parts that import no Keras."""

RECIPE, HISTORY, CHECKPOINTS = "recipe.toml", "history.csv", "checkpoints"
ENVIRONMENT, DATA, PROBLEMS = "environment.json", "data.json", "problem_images.csv"
BEST, LAST = "model.keras", "model-last.keras"
