def load_weights(model, variant, weights): raise NotImplementedError
