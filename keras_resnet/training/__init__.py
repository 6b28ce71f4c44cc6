"""Recipe -> run directory: `fit.train(recipe, run)`, `fit.resume(run)`, `recipe.read_recipe(path)`."""
